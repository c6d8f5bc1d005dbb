"""LLVM IR for vectors of float32, whole or masked, for ``vector`` and the microkernels."""

from llvmlite import ir
from numba.core import cgutils

FLOAT, INT32, INT64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
LINE = 64  # bytes of a cache line


def splat(builder, scalar, vector):
    """``scalar`` in every lane of a ``vector`` type."""
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, scalar, INT32(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(INT32, vector.count), [0] * vector.count))


def zeros(vector):
    """The constant 0 in every lane."""
    return ir.Constant(vector, [0.0] * vector.count)


def mask(builder, count, lanes):
    """The mask of the first ``count`` lanes, an int64, of ``lanes``."""
    index = ir.VectorType(INT32, lanes)  # as wide as the floats: one comparison
    limit = INT64(lanes)
    count = builder.trunc(builder.select(builder.icmp_signed("<", count, limit), count, limit), INT32)
    return builder.icmp_signed("<", ir.Constant(index, list(range(lanes))), splat(builder, count, index))


def transposed(builder, lines):
    """The columns of the square matrix whose rows are the vectors ``lines``, by swapping blocks of growing size."""
    lanes, lines, block = len(lines), list(lines), 1
    while block < lanes:
        low = [lane if not lane & block else lanes + lane - block for lane in range(lanes)]
        high = [lane + block if not lane & block else lanes + lane for lane in range(lanes)]
        for i in (i for i in range(lanes) if not i & block):
            a, b = lines[i], lines[i + block]
            lines[i], lines[i + block] = (
                builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(INT32, lanes), picked)) for picked in (low, high)
            )
        block *= 2
    return lines


def relu(builder, value):
    """max(value, 0) in each lane; NaN stays NaN."""
    zero = zeros(value.type)
    return builder.select(builder.fcmp_ordered("<", value, zero), zero, value)


def load(builder, pointer, vector):
    """Load a vector from a float pointer of any alignment."""
    return builder.load(builder.bitcast(pointer, vector.as_pointer()), align=4)


def store(builder, value, pointer):
    """Store a vector to a float pointer of any alignment."""
    builder.store(value, builder.bitcast(pointer, value.type.as_pointer()), align=4)


def can_store_nontemporal(builder, pointer, vector):
    """Whether ``store_nontemporal`` may write a vector there: whole cache lines, or parts that divide one."""
    rest = builder.and_(builder.ptrtoint(pointer, INT64), INT64(_boundary(vector) - 1))
    return builder.icmp_unsigned("==", rest, INT64(0))


def store_nontemporal(builder, value, pointer):
    """Store a vector without reading its cache lines first, to a pointer that ``can_store_nontemporal``."""
    target = builder.bitcast(pointer, value.type.as_pointer())
    instruction = builder.store(value, target, align=_boundary(value.type))
    instruction.set_metadata("nontemporal", builder.module.add_metadata([INT32(1)]))


def _boundary(vector):
    return min(4 * vector.count, LINE)


def load_masked(builder, pointer, mask, vector):
    """Load the lanes where ``mask`` is set; the others are 0, and their memory is not accessed."""
    pointer = builder.bitcast(pointer, vector.as_pointer())
    function = intrinsic(builder, "masked.load", vector, [pointer.type, INT32, mask.type, vector], vector, ".p0")
    return builder.call(function, [pointer, INT32(4), mask, zeros(vector)])


def store_masked(builder, value, pointer, mask):
    """Store the lanes where ``mask`` is set; the memory of the others is not accessed."""
    pointer = builder.bitcast(pointer, value.type.as_pointer())
    parameters = [value.type, pointer.type, INT32, mask.type]
    function = intrinsic(builder, "masked.store", ir.VoidType(), parameters, value.type, ".p0")
    builder.call(function, [value, pointer, INT32(4), mask])


def prefetch(builder, pointer, write=False, level=1):
    """Prefetch the cache line at ``pointer``, which may be outside any array, into the cache of ``level`` 1 to 3."""
    byte = builder.bitcast(pointer, ir.IntType(8).as_pointer())
    function = ir.FunctionType(ir.VoidType(), [byte.type, INT32, INT32, INT32])
    callee = cgutils.get_or_insert_function(builder.module, function, "llvm.prefetch.p0")
    builder.call(callee, [byte, INT32(int(write)), INT32(4 - level), INT32(1)])


def fma(builder, x, y, z, fused):
    """x · y + z; in one instruction if ``fused``, which the processor must have."""
    if not fused:
        return builder.fadd(builder.fmul(x, y), z)
    return builder.call(intrinsic(builder, "fma", z.type, [z.type] * 3, z.type), [x, y, z])


def intrinsic(builder, name, result, parameters, kind, suffix=""):
    """LLVM's intrinsic ``name`` for a vector type, or for float."""
    function = ir.FunctionType(result, parameters)
    lanes = f"v{kind.count}" if isinstance(kind, ir.VectorType) else ""
    return cgutils.get_or_insert_function(builder.module, function, f"llvm.{name}.{lanes}f32{suffix}")
