"""Elementary functions of float32 on the CPU, against float64 over the whole range."""

import math

import numpy as np
import pytest

from numbacnn.kernels.cpu.simd import math as simd_math
from numbacnn.kernels.cpu.simd.memory import address, floats
from numbacnn.kernels.formulas import activations
from numbacnn.kernels.jit import cpu_kernel, float32_1d

INF, NAN = np.inf, np.nan


def sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


erfc = np.vectorize(math.erfc, otypes=[np.float64])
FUNCTIONS = {  # name: ours, that of float64, error allowed in units in the last place
    "exp": (simd_math.exp, np.exp, 2),
    "expm1": (simd_math.expm1, np.expm1, 2),
    "log": (simd_math.log, np.log, 2),
    "log1p": (simd_math.log1p, np.log1p, 2),
    "tanh": (simd_math.tanh, np.tanh, 2),
    "sigmoid": (simd_math.vectorizable(activations.sigmoid), sigmoid, 2),
    "erfc": (simd_math.erfc, erfc, 6),
}
SPECIAL = {  # name: at −∞, ∞, −1, −0, 0
    "exp": (0, INF, None, 1, 1),
    "expm1": (-1, INF, None, 0, 0),
    "log": (NAN, INF, NAN, -INF, -INF),
    "log1p": (NAN, INF, -INF, 0, 0),
    "tanh": (-1, 1, None, -0.0, 0),
    "sigmoid": (0, 1, None, 0.5, 0.5),
    "erfc": (2, 0, None, 1, 1),
}
every_function = pytest.mark.parametrize("name", FUNCTIONS)
KERNELS = {}


def kernel(name):
    """Return the kernel y = f(x) of a function."""
    if name not in KERNELS:
        function = FUNCTIONS[name][0]

        def apply(y, x):
            for i in range(len(x)):
                y[i] = function(x[i])

        KERNELS[name] = cpu_kernel(float32_1d, float32_1d, parallel=False, key=lambda: name)(apply)
    return KERNELS[name]


def computed(name, x):
    y = np.full_like(x, 7)
    kernel(name)(y, x)
    return y


def units_off(y, expected):
    """|y − expected| in units in the last place of float32 at ``expected``, 2⁻¹⁴⁹ for subnormal numbers.

    Beyond the range of float32, where it rounds to ∞, 0 if y is ∞. NaN counts as equal to NaN.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = expected.astype(np.float32)
        unit = np.ldexp(1.0, np.maximum(np.frexp(np.where(np.isfinite(expected), expected, 1))[1] - 24, -149))
        off = np.abs(y - expected) / unit
    same = (y == rounded) | (np.isnan(y) & np.isnan(rounded))
    finite = np.isfinite(rounded) & np.isfinite(y)
    return np.where(finite, off, np.where(same, 0, INF))


def neighbors(x, count=200):
    """Return the float32 numbers around x."""
    bits = np.float32(x).view(np.int32) + np.arange(-count, count + 1, dtype=np.int32)
    return bits.view(np.float32)


def sample(step):
    """Return every ``step``-th float32 of all bit patterns, and all around the points where the formulas change."""
    bends = [
        2.0**-149,
        2.0**-126,
        2.0**-24,
        0.3466,
        0.5,
        2**-0.5,
        0.625,
        1,
        2**0.5,
        2,
        10.5,
        17.33,
        20,
        87.34,
        88.72,
        89,
    ]
    bends += [103.28, 103.97, 104, 128, float(np.finfo(np.float32).max)]
    near = [neighbors(sign * bend) for bend in bends for sign in (1, -1)]
    return np.concatenate([np.arange(0, 1 << 32, step, np.uint64).astype(np.uint32).view(np.float32), *near])


@every_function
def test_within_units_in_the_last_place_over_the_whole_range(name):
    _, function, allowed = FUNCTIONS[name]
    x = sample(9973 if name == "erfc" else 997)  # that of float64 is slow
    with np.errstate(all="ignore"):
        expected = function(x.astype(np.float64))
    off = units_off(computed(name, x), expected)
    worst = np.argmax(off)
    assert off[worst] <= allowed, f"{name}({x[worst]!r}) is {off[worst]:.2f} units off {expected[worst]!r}"


@every_function
def test_special_values(name):
    expected = np.array(SPECIAL[name], object)
    x = np.array([-INF, INF, -1, -0.0, 0], np.float32)
    known = np.array([value is not None for value in expected])
    y = computed(name, x)
    np.testing.assert_array_equal(y[known], expected[known].astype(np.float32))
    assert np.isnan(computed(name, np.array([NAN, -NAN], np.float32))).all()


def test_exponentials_are_subnormal_before_they_are_zero():
    x = np.array([-87.5, -100, -103.5, -103.9, -104, -1e30], np.float32)
    expected = np.exp(x.astype(np.float64)).astype(np.float32)
    np.testing.assert_allclose(computed("exp", x), expected, rtol=0, atol=2.0**-149)
    np.testing.assert_allclose(computed("sigmoid", x), expected, rtol=0, atol=2.0**-149)
    assert 0 < computed("exp", x)[2] < 2.0**-126
    assert computed("exp", x)[-1] == 0


def test_tanh_and_sigmoid_saturate_exactly():
    x = np.array([10, 20, 88, 3e38], np.float32)
    np.testing.assert_array_equal(computed("tanh", x), 1)
    np.testing.assert_array_equal(computed("tanh", -x), -1)
    np.testing.assert_array_equal(computed("sigmoid", x[1:]), 1)


def test_the_smallest_numbers_pass_through_where_the_slope_is_one():
    x = np.concatenate([neighbors(2.0**-126), neighbors(2.0**-149, 0)])
    for name in ("tanh", "expm1", "log1p"):
        np.testing.assert_array_equal(computed(name, x), x)
        np.testing.assert_array_equal(computed(name, -x), -x)


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "silu", "gelu", "gelu_tanh"])
def test_loops_of_activations_are_vectors_without_a_call(name):
    function = simd_math.vectorizable(getattr(activations, name))

    @cpu_kernel(float32_1d, float32_1d, parallel=False, key=lambda: None)
    def row(y, x):
        p_y, p_x = floats(address(y), len(y)), floats(address(x), len(x))
        for i in range(len(x)):
            p_y[i] = function(p_x[i])

    row(np.empty(4, np.float32), np.ones(4, np.float32))
    (code,) = row._dispatcher.inspect_llvm().values()
    assert "x float> @llvm.fma" in code or "fmul nsz <" in code
    assert not [name for name in ("expf", "tanhf", "erfcf", "llvm.exp.", "llvm.log.", "llvm.tanh.") if name in code]
