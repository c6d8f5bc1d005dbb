"""Which algorithm runs a convolution, in each direction: one row for each algorithm of the CPU, and what it costs."""

from functools import partial

import pytest

import numbacnn as nc
from numbacnn.engine.plan import make_plan
from numbacnn.geometry import conv_geometry, pool_geometry
from numbacnn.kernels.cpu import sizes
from numbacnn.kernels.cpu.gemm.gemm import LANES
from numbacnn.kernels.reference import sizes as reference_sizes
from numbacnn.layers.algorithms import LATENCY, choose

FORWARD, WEIGHTS, INPUT = DIRECTIONS = ("forward", "weight_gradient", "input_gradient")


def halves(filters):
    """The 2×2 max-pool of a convolution's 24×24 output."""
    return pool_geometry((24, 24, filters), (2, 2), (2, 2))


CASES = {  # algorithm: the convolution, its directions, and the max-pool that it computes too
    "direct": (conv_geometry((28, 28, 64), 40, (3, 3), (2, 2)), DIRECTIONS, None),
    "winograd4": (conv_geometry((56, 56, 64), 64, (3, 3), (1, 1), "same"), DIRECTIONS, None),
    "winograd2": (conv_geometry((56, 56, 64), 64, (5, 5), (1, 1), "same"), DIRECTIONS, None),
    "depthwise": (conv_geometry((14, 14, 32), 32, (3, 3), (1, 1), 1, (1, 1), 32), DIRECTIONS, None),
    "grouped": (conv_geometry((14, 14, 8), 16, (3, 3), (1, 1), 1, (1, 1), 8), DIRECTIONS, None),
    "pixel pairs": (conv_geometry((28, 28, 3), LANES // 2, (5, 5), (1, 1), 2), (FORWARD, WEIGHTS), None),
    "blocked": (conv_geometry((14, 14, 512), 512, (3, 3), (2, 2), "same"), (WEIGHTS,), None),
    "col2im": (conv_geometry((14, 14, 6), 16, (5, 5)), (INPUT,), None),
    "pooled": (conv_geometry((28, 28, 8), 2 * LANES, (5, 5)), (FORWARD,), halves(2 * LANES)),
    "single channel": (conv_geometry((28, 28, 1), 2, (5, 5)), (FORWARD,), halves(2)),
    "pool gradient": (conv_geometry((28, 28, 6), 16, (5, 5)), (WEIGHTS, INPUT), halves(16)),
}


@pytest.mark.parametrize("name", CASES)
def test_each_algorithm_is_chosen_for_its_case(name):
    g, directions, pool = CASES[name]
    if name == "grouped" and LANES == 4:
        pytest.skip("no group of more than one channel leaves half of four lanes empty")
    for direction in directions:
        assert choose(sizes.CONV_ALGORITHMS, direction, g, "auto", pool).name == name


def test_every_algorithm_has_a_case():
    assert {algorithm.name: set(algorithm.directions) for algorithm in sizes.CONV_ALGORITHMS} == {
        name: set(directions) for name, (_, directions, _) in CASES.items()
    }


def test_a_family_leaves_the_choice_among_its_members():
    g = CASES["winograd4"][0]
    assert choose(sizes.CONV_ALGORITHMS, FORWARD, g, "winograd2").name == "winograd2"
    assert choose(sizes.CONV_ALGORITHMS, FORWARD, g, "direct").name == "direct"
    assert choose(sizes.CONV_ALGORITHMS, INPUT, CASES["col2im"][0], "direct").name == "col2im"
    small = conv_geometry((4, 4, 2), 3, (3, 3))
    assert choose(sizes.CONV_ALGORITHMS, FORWARD, small, "winograd4").name == "winograd4"


def test_for_one_image_weights_that_take_longer_to_read_than_to_multiply_are_not_transformed():
    """From 64 to 512 channels, as in a ResNet of 32×32 images, whose last stages have few pixels and large weights."""
    chosen = {
        size: choose(sizes.CONV_ALGORITHMS, FORWARD, conv_geometry((size, size, c), c, (3, 3), padding="same"), LATENCY)
        for size, c in ((32, 64), (16, 128), (8, 256), (4, 512))
    }
    assert [algorithm.name for algorithm in chosen.values()] == ["winograd4", "winograd4", "winograd2", "direct"]
    for name in ("depthwise", "direct", "pixel pairs"):  # which do not transform weights
        g, (direction, *_), _ = CASES[name]
        assert choose(sizes.CONV_ALGORITHMS, direction, g, LATENCY).name == name
    g, pool = CASES["pooled"][0], CASES["pooled"][2]
    assert choose(sizes.CONV_ALGORITHMS, FORWARD, g, LATENCY, pool).name == "pooled"
    assert choose(reference_sizes.CONV_ALGORITHMS, FORWARD, g, LATENCY).name == "direct"


@pytest.mark.parametrize(
    ("size", "channels", "filters", "expected"),
    [
        (7, 512, 512, ("winograd2", "blocked", "direct")),  # gradients write and read transformed weights again
        (14, 512, 512, ("winograd2", "winograd2", "winograd2")),
        (56, 64, 64, ("winograd4", "winograd4", "winograd4")),
        (224, 3, 64, ("direct", "direct", "col2im")),  # 3 of a vector's lanes
    ],
)
def test_for_one_image_each_direction_has_its_own_algorithm(size, channels, filters, expected):
    g = conv_geometry((size, size, channels), filters, (3, 3), padding="same")
    assert tuple(choose(sizes.CONV_ALGORITHMS, direction, g, LATENCY).name for direction in DIRECTIONS) == expected


FEW = {  # a convolution with few channels, and its algorithms forward and for the gradients of weights and input
    (224, 3, 64, 3): ("direct", "direct", "col2im"),  # transforms of outputs cost more than 3 inputs save
    (56, 8, 32, 3): ("winograd4", "direct", "winograd4"),
    (56, 32, 8, 3): ("winograd4", "winograd4", "winograd4"),
    (9, 32, 8, 3): ("direct", "direct", "winograd4"),  # 9 rows and columns of 12, and half a vector of outputs
    (28, 3, 64, 3): ("direct", "direct", "col2im"),
    (56, 8, 64, 5): ("direct", "direct", "col2im"),
}


@pytest.mark.parametrize("shape", FEW)
def test_with_few_channels_each_direction_has_its_own_algorithm(shape):
    size, channels, filters, window = shape
    g = conv_geometry((size, size, channels), filters, (window, window), padding="same")
    assert tuple(choose(sizes.CONV_ALGORITHMS, direction, g).name for direction in DIRECTIONS) == FEW[shape]


def test_a_device_without_the_family_chooses_freely():
    assert choose(reference_sizes.CONV_ALGORITHMS, FORWARD, CASES["winograd4"][0], "winograd4").name == "direct"


def test_no_algorithm_computes_a_pool_that_none_can():
    g, overlapping = conv_geometry((28, 28, 6), 16, (5, 5)), pool_geometry((24, 24, 16), (3, 3), (2, 2))
    assert all(choose(sizes.CONV_ALGORITHMS, direction, g, "auto", overlapping) is None for direction in DIRECTIONS)


def test_transposed_convolutions_run_the_other_directions_and_never_winograd():
    model = nc.Sequential([nc.Conv2DTranspose(64, 3, padding="same")], (56, 56, 64))
    plan = make_plan(model.graph, sizes, 2, training=True, input_gradient=True)
    chosen = {direction: a.name for step in (*plan.forward, *plan.backward) for direction, a in step.algorithms.items()}
    assert set(chosen) == set(DIRECTIONS)
    assert "winograd" not in "".join(chosen.values())


@pytest.mark.parametrize("name", CASES)
def test_costs_count_what_runs(name):
    """Winograd multiplies less than the direct algorithm, pixel pairs more, a pool's gradient only maxima."""
    g, directions, pool = CASES[name]
    algorithm = next(algorithm for algorithm in sizes.CONV_ALGORITHMS if algorithm.name == name)
    for direction in directions:
        cost = algorithm.cost(direction, g, 3, pool)
        share = cost.flops / (3 * g.flops)
        if name.startswith("winograd"):
            assert share <= 1 / 2
            if direction == FORWARD:  # whose weights are stored transformed
                assert cost.bytes > choose(sizes.CONV_ALGORITHMS, direction, g, "direct").cost(direction, g, 3).bytes
        elif name == "pool gradient":
            assert share == 1 / 4
        else:
            assert share == pytest.approx((g.s + g.stride_w) / g.s if name == "pixel pairs" else 1)
        assert cost.bytes > 0


def test_an_algorithm_set_after_recording_is_that_of_one_layer():
    convolution = partial(nc.Conv2D, 64, 3, padding="same")
    model = nc.Sequential([convolution(), convolution(), nc.ReLU6()], (16, 16, 64))
    model.layers[1].algorithm = "direct"
    steps = make_plan(model.graph, sizes, 2, training=False).forward
    assert [step.algorithms["forward"].name for step in steps] == ["winograd4", "direct"]
    assert steps[1].fused == "relu6"


@pytest.mark.parametrize(("family", "exact"), [("auto", False), ("auto", True), ("direct", False)])
def test_the_gradient_of_a_pool_yields_to_winograd_where_that_may_run(family, exact):
    g, pool = conv_geometry((14, 14, 32), 64, (3, 3), (1, 1), "same"), pool_geometry((14, 14, 64), (2, 2), (2, 2))
    able = [algorithm for algorithm in sizes.CONV_ALGORITHMS if not (exact and algorithm.spreads(g))]
    chosen = choose(able, WEIGHTS, g, family, pool)
    assert (chosen and chosen.name) == (None if (family, exact) == ("auto", False) else "pool gradient")


def test_the_gradient_of_a_pool_does_not_yield_if_winograd_has_only_one_of_its_directions():
    g, pool = conv_geometry((28, 28, 8), 64, (3, 3), (1, 1), "same"), pool_geometry((28, 28, 64), (2, 2), (2, 2))
    chosen = [choose(sizes.CONV_ALGORITHMS, direction, g).name for direction in (WEIGHTS, INPUT)]
    assert chosen == ["direct", "winograd4"]
    for direction in (WEIGHTS, INPUT):
        assert choose(sizes.CONV_ALGORITHMS, direction, g, "auto", pool).name == "pool gradient"
