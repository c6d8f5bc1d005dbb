"""Laws that hold for any numbers: equivariance, linearity, adjoints.

Bits are compared for the direct algorithm; in Winograd's tiles, they depend on the position in the image.
"""

from functools import partial

import numpy as np
from cases import CASES
from engine import assert_close, one_layer, run
from hypothesis import given
from hypothesis import strategies as st
from op import Case

import numbacnn as nc

F = nc.functional
conv2d = partial(F.conv2d, algorithm="direct")
seeds = st.integers(0, 2**32 - 1)
channels = st.integers(1, 20)
CONVOLUTIONS = [case for case in CASES if case.layer().op == "conv2d"]


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@given(seeds, channels, channels, st.tuples(*[st.integers(1, 4)] * 2), st.tuples(*[st.integers(0, 3)] * 2))
def test_convolution_commutes_with_shifts_bit_for_bit(seed, c, k, window, shift):
    x, w, b = normal(seed, 2, 9, 11, c), normal(seed + 1, *window, c, k), normal(seed + 2, k)
    down, right = shift
    whole = conv2d(x, w, b)
    np.testing.assert_array_equal(conv2d(x[:, down:, right:], w, b), whole[:, down:, right:])


@given(seeds, channels, st.integers(1, 3), st.integers(0, 2))
def test_a_shift_by_the_stride_shifts_the_output_by_one_bit_for_bit(seed, c, stride, outputs):
    x, w = normal(seed, 1, 12, 12, c), normal(seed + 1, 3, 3, c, 5)
    shifted = conv2d(x[:, stride * outputs :], w, stride=stride)
    np.testing.assert_array_equal(shifted, conv2d(x, w, stride=stride)[:, outputs:])


@given(seeds, channels, st.tuples(*[st.integers(0, 5)] * 2))
def test_with_same_padding_a_pattern_gives_the_same_output_at_any_position(seed, c, position):
    """Zeros of the halo count as the zeros of a larger image around the pattern."""
    pattern, w = normal(seed, 1, 3, 3, c), normal(seed + 1, 3, 3, c, 7)
    h, k = position[0] + 1, position[1] + 1
    x = np.zeros((1, 10, 10, c), np.float32)
    x[:, h : h + 3, k : k + 3] = pattern
    alone = conv2d(np.pad(pattern, [(0, 0), (1, 1), (1, 1), (0, 0)]), w, padding="same")
    np.testing.assert_array_equal(conv2d(x, w, padding="same")[:, h - 1 : h + 4, k - 1 : k + 4], alone)


@given(seeds, channels, st.integers(2, 4), st.data())
def test_pooling_is_invariant_to_moves_inside_a_window(seed, c, size, data):
    x = np.zeros((1, 3 * size, 2 * size, c), np.float32)
    position = st.integers(0, size - 1)
    bright = normal(seed, c)
    images = []
    for _ in range(2):
        row, column = data.draw(position), data.draw(position)
        images.append(x.copy())
        images[-1][0, size + row, column] = bright
    for pool in (F.max_pool2d, F.avg_pool2d):
        np.testing.assert_array_equal(pool(images[0], size), pool(images[1], size))


@given(seeds, channels, channels, st.floats(-3, 3), st.floats(-3, 3))
def test_convolution_is_linear(seed, c, k, a, b):
    x_1, x_2, w = normal(seed, 2, 6, 7, c), normal(seed + 1, 2, 6, 7, c), normal(seed + 2, 3, 3, c, k)
    y_1, y_2 = (F.conv2d(x, w, padding="same").astype(np.float64) for x in (x_1, x_2))
    # Relative to the size of the parts, since their sum may vanish.
    together = F.conv2d(np.float32(a) * x_1 + np.float32(b) * x_2, w, padding="same")
    size = abs(a) * np.linalg.norm(y_1) + abs(b) * np.linalg.norm(y_2)
    assert np.linalg.norm(together - (np.float32(a) * y_1 + np.float32(b) * y_2)) <= 1e-6 * size + 1e-30


@given(st.sampled_from(CONVOLUTIONS), seeds)
def test_gradients_are_adjoints(case: Case, seed):
    """⟨y, dy⟩ = ⟨x, dx⟩ = ⟨w, dw⟩ without a bias, since y is linear in x and in w."""
    model = one_layer(case)
    model.set_parameters({name: np.zeros(a.shape) for name, a in model.parameters.items() if name.endswith("bias")})
    x = normal(seed, case.batch, *case.shapes[0])
    dy = normal(seed + 1, case.batch, *model.graph.nodes[0].shape)
    result = run(model, [x], [dy])
    w, dw = (next(a for name, a in m.items() if name.endswith("weight")) for m in (model.parameters, result.gradients))
    pairs = [(result.ys[0], dy), (x, result.dxs[0]), (w, dw)]
    products = [np.vdot(a.astype(np.float64), b.astype(np.float64)) for a, b in pairs]
    size = max(np.linalg.norm(a) * np.linalg.norm(b) for a, b in pairs)
    assert np.ptp(products) <= 1e-6 * size, f"{case}: {products}"


@given(seeds, st.integers(1, 40))
def test_softmax_is_invariant_to_a_shift_of_all_logits(seed, classes):
    x = np.round(64 * normal(seed, 3, classes)) / 64  # so that the shift is exact
    np.testing.assert_array_equal(F.softmax(x + 512), F.softmax(x))
    assert_close(F.softmax(x).sum(-1), np.ones(3), "sums")
