"""Elementary functions of float32 that LLVM vectorizes, within 2 ulp (erfc within 6).

The C library's functions take one number per call. These are polynomials without branches or tables: argument reduction
as in Cody and Waite (1980, "Software manual for the elementary functions", chapters 5 and 6), coefficients of minimal
relative error by Lawson's algorithm. NaN stays NaN, subnormal numbers are exact, infinities give the limits.

Each function is emitted as LLVM instructions at its call site, so there is nothing to inline and little to compile.
``Number`` lets them be written as formulas, and ``vectorizable`` substitutes them for ``math``.
"""

import math
import sys
from functools import partial
from math import sqrt as sqrt

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from numbacnn.kernels.cpu.simd import llvm
from numbacnn.kernels.cpu.simd.llvm import FLOAT, INT32
from numbacnn.kernels.formulas.formula import with_math
from numbacnn.kernels.jit import inlined
from numbacnn.kernels.target import host_target

# Any flag keeps Numba from adding those of fast-math: operations are rounded in the order in which they are written.
FLAGS = ("nsz",)
INFINITY, NAN = math.inf, math.nan
LOG2_E = 1 / math.log(2)
LN2_HIGH, LN2_LOW = 355 / 512, math.log(2) - 355 / 512  # n · LN2_HIGH is exact for |n| < 2^15

# A float this large has no fraction: x + ROUND − ROUND rounds x to an integer, which is also in the last bits of
# x + ROUND.
ROUND, ROUND_BITS = 3 * 2.0**22, 0x4B400000
ONE_BITS, SQRT_HALF_BITS, MANTISSA, HIGH_HALF = 0x3F800000, 0x3F3504F3, 0x7FFFFF, ~0xFFF
SMALLEST_NORMAL, SMALLEST, SUBNORMAL_BITS = 2.0**-126, 2.0**-149, 23

EXP_MIN, EXP_MAX = -104, 89  # beyond, 0 and ∞
EXPM1_MIN, ERFC_MAX = -20, 10.5  # beyond, −1 and 0
TANH_NEAR = 0.625

# Coefficients, highest power first.
EXP = (0.0013882507, 0.0083665801, 0.0416672006, 0.1666654348, 0.4999999702)  # (eʳ − 1 − r) / r², |r| ≤ ½ ln 2
LOG = (  # (log(1 + f) − f + f²/2) / f³, √½ ≤ 1 + f ≤ √2
    0.0674660131, -0.1167564094, 0.1188817471, -0.1240559146, 0.1421955079, -0.1666799635, 0.2000211924, -0.2500000894,
    0.3333331347,
)  # fmt: skip
TANH = (-0.0057049785, 0.0206390787, -0.0537397116, 0.1333144158, -0.3333328068)  # (tanh(x)/x − 1) / x², in x²
ERFC = (  # (1 + 2x) · exp(x²) · erfc(x) in (x − 2.5) / (x + 2.5), 0 ≤ x ≤ 10.5
    7.61858609e-05, 0.00060651684, 0.00033994121, -0.0044152765, 0.00098304590, 0.0327763063, -0.1029744744,
    0.1576279104, -0.0990241319, -0.1223566979, 1.2648382187,
)  # fmt: skip


class Number:
    """A float32 or an int32 of the code to emit: arithmetic on it emits instructions."""

    def __init__(self, builder, value):
        self.builder, self.value = builder, value

    def __add__(self, other):
        return self._combined("fadd", "add", other)

    def __sub__(self, other):
        return self._combined("fsub", "sub", other)

    def __mul__(self, other):
        return self._combined("fmul", "mul", other)

    def __truediv__(self, other):
        return self._combined("fdiv", None, other)

    def __radd__(self, constant):
        return self._like(constant) + self

    def __rsub__(self, constant):
        return self._like(constant) - self

    def __rmul__(self, constant):
        return self._like(constant) * self

    def __rtruediv__(self, constant):
        return self._like(constant) / self

    def __neg__(self):
        return -0.0 - self

    def __lshift__(self, count):
        return self._combined(None, "shl", count)

    def __rshift__(self, count):
        return self._combined(None, "ashr", count)

    def __and__(self, mask):
        return self._combined(None, "and_", mask)

    def __lt__(self, other):
        return self.builder.fcmp_ordered("<", self.value, self._like(other).value, flags=FLAGS)

    def __gt__(self, other):
        return self.builder.fcmp_ordered(">", self.value, self._like(other).value, flags=FLAGS)

    def _combined(self, of_floats, of_integers, other):
        other = self._like(other).value
        if self.value.type == FLOAT:
            return Number(self.builder, getattr(self.builder, of_floats)(self.value, other, flags=FLAGS))
        return Number(self.builder, getattr(self.builder, of_integers)(self.value, other))

    def _like(self, other):
        """The other operand, which may be a Python constant."""
        return other if isinstance(other, Number) else Number(self.builder, ir.Constant(self.value.type, other))


def where(condition, yes, no):
    """Select ``yes`` or ``no``, one of which may be a constant."""
    number = yes if isinstance(yes, Number) else no
    value = number.builder.select(condition, number._like(yes).value, number._like(no).value)
    return Number(number.builder, value)


def multiply_add(x, y, z):
    """x · y + z, rounded once if the processor has fused multiply-add."""
    x, y, z = (x._like(number) for number in (x, y, z))
    if not host_target().fma:
        return x * y + z
    return Number(x.builder, llvm.fma(x.builder, x.value, y.value, z.value, fused=True))


def bits_of(x):
    """The bits of a float as an integer."""
    return Number(x.builder, x.builder.bitcast(x.value, INT32))


def from_bits(n):
    """The float with these bits."""
    return Number(n.builder, n.builder.bitcast(n.value, FLOAT))


def power_of_two(n):
    """2ⁿ for −127 < n < 128."""
    return from_bits((n << 23) + ONE_BITS)


def magnitude(x):
    """|x|."""
    return from_bits(bits_of(x) & 0x7FFFFFFF)


def with_sign(x, sign):
    """|x| with the sign of another number."""
    function = llvm.intrinsic(x.builder, "copysign", FLOAT, [FLOAT, FLOAT], FLOAT)
    return Number(x.builder, x.builder.call(function, [x.value, sign.value]))


def polynomial(coefficients, x):
    """The polynomial's value at x, by Horner's rule."""
    y = x._like(coefficients[0])
    for coefficient in coefficients[1:]:
        y = multiply_add(y, x, coefficient)
    return y


def emitted(formula):
    """Make a Numba intrinsic from ``formula``, a function of a Number that emits its instructions."""

    def function(typing, x):
        def emit(context, builder, signature, arguments):
            return formula(Number(builder, arguments[0])).value

        return types.float32(types.float32), emit

    function.__name__, function.__doc__ = formula.__name__, formula.__doc__
    return intrinsic(function)


def _reduced(x):
    """(r, s, n) with eˣ = 2ⁿ · (1 + r + s), |r| ≤ ½ ln 2, and r exact."""
    shifted = multiply_add(x, LOG2_E, ROUND)
    n = shifted - ROUND
    high, low = multiply_add(n, -LN2_HIGH, x), n * -LN2_LOW
    r = high + low
    return high, multiply_add(r * r, polynomial(EXP, r), low), bits_of(shifted) - ROUND_BITS


def _exp(x):
    x = where(x > EXP_MAX, EXP_MAX, x)
    x = where(x < EXP_MIN, EXP_MIN, x)
    r, s, n = _reduced(x)
    y = 1 + r
    half = n >> 1
    return (y + (s + (r - (y - 1)))) * power_of_two(half) * power_of_two(n - half)


def _log(x):
    tiny = x < SMALLEST_NORMAL
    bits = bits_of(where(tiny, x * 2.0**SUBNORMAL_BITS, x)) - SQRT_HALF_BITS
    n = from_bits((bits >> 23) + ROUND_BITS) - ROUND
    n = where(tiny, n - SUBNORMAL_BITS, n)
    f = from_bits((bits & MANTISSA) + SQRT_HALF_BITS) - 1
    square = f * f
    y = multiply_add(square, -0.5, multiply_add(n, LN2_LOW, f * square * polynomial(LOG, f)))
    y = multiply_add(n, LN2_HIGH, f + y)
    y = where(x < INFINITY, y, x)  # ∞ and NaN
    y = where(x < SMALLEST, -INFINITY, y)
    return where(x < 0, NAN, y)


@emitted
def exp(x):
    """eˣ. The power of two is applied in two steps, since 2ⁿ itself may be subnormal or infinite."""
    return _exp(x)


@emitted
def expm1(x):
    """eˣ − 1 = 2ⁿ · (r + s) + (2ⁿ − 1), precise near 0."""
    x = where(x > EXP_MAX, EXP_MAX, x)
    x = where(x < EXPM1_MIN, EXPM1_MIN, x)
    r, s, n = _reduced(x)
    half = n >> 1
    first = power_of_two(half)
    return multiply_add(r + s, first, first - power_of_two(half - n)) * power_of_two(n - half)


@emitted
def tanh(x):
    """1 − 2 / (e²ˣ + 1) of |x| with the sign of x; an odd polynomial near 0."""
    square, size = x * x, magnitude(x)
    far = with_sign(1 - 2 / (_exp(2 * size) + 1), x)
    return where(size < TANH_NEAR, multiply_add(x * square, polynomial(TANH, square), x), far)


@emitted
def log(x):
    """Natural logarithm: x = 2ⁿ · (1 + f), √½ ≤ 1 + f < √2; −∞ at 0, NaN below."""
    return _log(x)


@emitted
def log1p(x):
    """log(1 + x), corrected for the rounding error of 1 + x by the derivative 1 / (1 + x)."""
    y = 1 + x
    lost = where(x < 1, x - (y - 1), 1 - (y - x)) / y
    return _log(y) + where(magnitude(lost) < INFINITY, lost, 0.0)  # NaN at −1 and ∞


@emitted
def erfc(x):
    """1 − erf(x) = exp(−x²) · p(u) / (1 + 2x) with u = (x − 2.5) / (x + 2.5) (form of Shepherd and Laframboise 1981,
    "Chebyshev approximation of (1 + 2x) exp(x²) erfc x"), and 2 − erfc(−x) where x < 0.

    x² is split into total + rest, so that its rounding error does not reach the exponential.
    """
    size = magnitude(x)
    size = where(size > ERFC_MAX, ERFC_MAX, size)
    high = from_bits(bits_of(size) & HIGH_HALF)
    square, low = high * high, (size - high) * (size + high)  # high² is exact
    total = square + low
    rest = low - (total - square)
    p = polynomial(ERFC, (size - 2.5) / (size + 2.5))
    y = _exp(-total) * (1 - rest) * p / (1 + 2 * size)
    return where(x < 0, 2 - y, y)


@intrinsic
def fma(typing, x, y, z):
    """x · y + z, rounded once if the processor has fused multiply-add."""

    def emit(context, builder, signature, arguments):
        return multiply_add(*(Number(builder, argument) for argument in arguments)).value

    return types.float32(types.float32, types.float32, types.float32), emit


def vectorizable(function):
    """Compile a Python scalar function for loops that LLVM vectorizes, with this module in place of ``math``."""
    compiled = partial(inlined, always=True)
    return compiled(with_math(function, sys.modules[__name__], compiled))
