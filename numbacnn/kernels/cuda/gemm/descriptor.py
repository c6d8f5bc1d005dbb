"""The descriptor of a GEMM, which convolutions and dense layers are: C[i,j] = Σ_k A[i,k]·B[k,j].

Rows and k are nests of three loops, such as the image, row and column of a pixel, or the row, column and channel of a
window, each with its own stride. So nothing is copied by im2col: in NHWC inside a halo of zeros, the pixels under a
window are at the same distances for every output (implicit GEMM). Offsets and strides count float32 elements.
"""

from typing import NamedTuple

from numbacnn.errors import NumbacnnError
from numbacnn.kernels.cuda.runtime.array import DeviceArray
from numbacnn.kernels.cuda.runtime.intrinsics import device_function


class FastDivmod(NamedTuple):
    """Division by an invariant as a multiplication and a shift, exact below 2³¹; CUTLASS has it under this name.

    Granlund and Montgomery 1994, "Division by invariant integers using multiplication", theorem 4.2.
    """

    divisor: int
    multiplier: int
    shift: int


class LoopNest(NamedTuple):
    """``size`` iterations of three nested loops: iteration = (i₀ · middle + i₁) · inner + i₂."""

    size: int
    middle: FastDivmod
    inner: FastDivmod


class Strides(NamedTuple):
    """The strides of the loops of a nest."""

    outer: int
    middle: int
    inner: int


class Operand(NamedTuple):
    """A or B: the offset of group 0, the stride of groups, the strides along m or n, and along k.

    Columns of B are a single loop, with the inner stride.
    """

    offset: int
    group: int
    mn: Strides
    k: Strides


class Output(NamedTuple):
    """C, with contiguous columns: the offset of group 0, the strides of groups, of partial sums, and of rows."""

    offset: int
    group: int
    split: int
    m: Strides


class Epilogue(NamedTuple):
    """Operations on C before the store: the bias at offset ``bias`` is added, then ReLU, then C = 0 where mask ≤ 0.

    The mask is indexed like C, with its own strides. An offset of −1: none.
    """

    bias: int = -1
    relu: bool = False
    mask: int = -1
    mask_m: Strides = Strides(0, 0, 0)


class Gemm(NamedTuple):
    """``groups`` products C = A·B of m×k and k×n. The k of each is cut into ``splits`` partial sums (split-K).

    ``aligned``: whether rows of C, bias and mask start at 16 bytes and consist of whole vectors of four.
    """

    groups: int
    splits: int
    m: LoopNest
    n: int
    k: LoopNest
    a: Operand
    b: Operand
    c: Output
    epilogue: Epilogue = Epilogue()
    aligned: bool = False


class Layout(NamedTuple):
    """The offset and the first three strides of an array N×H×W×C."""

    offset: int
    image: int
    row: int
    pixel: int


class Access(NamedTuple):
    """Whether the neighbors of an operand in memory are along k, or else along m or n; and are loaded in vectors."""

    k_major: bool
    vector: bool


def fast_divmod(divisor: int) -> FastDivmod:
    """Return the multiplier and the shift of a divisor."""
    shift = 31 + (max(1, divisor) - 1).bit_length()
    return FastDivmod(divisor, (1 << shift) // max(1, divisor) + 1, shift)


def loop_nest(outer: int, middle: int, inner: int) -> LoopNest:
    """Return the nest of three loops with these numbers of iterations. Raises NumbacnnError for 2³¹ or more."""
    if outer * middle * inner >= 1 << 31:
        size = f"{outer:,} × {middle:,} × {inner:,} = {outer * middle * inner:,}"
        raise NumbacnnError(f"a product on the GPU has fewer than 2,147,483,648 rows, not {size}: use smaller batches")
    return LoopNest(outer * middle * inner, fast_divmod(middle), fast_divmod(inner))


def layout(x: DeviceArray) -> Layout:
    """Return the layout of an array N×H×W×C of float32."""
    return Layout(x.offset, *(stride // 4 for stride in x.strides[:3]))


def access(operand: Operand, inner: int, k_inner: int) -> Access:
    """Return how to load an operand, from the number of iterations of the inner loops along m or n, and along k."""
    k_major = operand.k.inner == 1
    contiguous, strided = (k_inner, operand.mn.inner) if k_major else (inner, operand.k.inner)
    return Access(k_major, aligned(operand.offset, operand.group, *operand.mn[:2], *operand.k[:2], contiguous, strided))


def aligned_output(g: Gemm) -> bool:
    """Return whether rows of C, bias and mask start at 16 bytes and consist of whole vectors of four."""
    bias, _, mask, mask_m = g.epilogue
    offsets = [*g.c[:3], *g.c.m, g.n, *([bias] if bias >= 0 else []), *([mask, *mask_m] if mask >= 0 else [])]
    return aligned(*offsets)


def aligned(*counts: int) -> bool:
    """Return whether addresses at distances of these numbers of floats are all aligned to 16 bytes."""
    return all(count % 4 == 0 for count in counts)


# -- on the device ----------------------------------------------------------------------------------------------------


@device_function
def offset_of(iteration, nest, strides):
    """The offset of an iteration of a nest."""
    above = iteration * nest.inner.multiplier >> nest.inner.shift
    outer = above * nest.middle.multiplier >> nest.middle.shift
    middle, inner = above - outer * nest.middle.divisor, iteration - above * nest.inner.divisor
    return outer * strides.outer + middle * strides.middle + inner * strides.inner
