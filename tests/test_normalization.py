"""Normalization layers beyond the table of cases: large means, running statistics, fusion, errors."""

import numpy as np
import oracles
import pytest
from engine import KEY, Fixed, assert_close, output_shapes, run, run_planned
from hypothesis import given, settings
from hypothesis import strategies as st

import numbacnn as nc
from numbacnn.engine.executor import Executor
from numbacnn.engine.plan import make_plan
from numbacnn.kernels.cpu.norm import channels

seeds = st.integers(0, 2**32 - 1)


def listed(layers, shape, **options):
    """A sequential model that takes and returns lists."""
    x = start = nc.Input(shape)
    for layer in layers:
        x = layer(x)
    return nc.Model([start], [x], **options)


# -- rounding ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mean", [0, 1e2, -1e4, 1e6])
@pytest.mark.parametrize("shape", [(9, 8, 3), (300,)], ids=str)
@pytest.mark.parametrize("layer", [nc.BatchNorm, lambda: nc.GroupNorm(1)], ids=["batch", "group"])
def test_large_means_cost_no_precision(layer, shape, mean, rng):
    """Both get x rounded to float32; a sum of squares would lose the deviation."""
    x = (rng.standard_normal((20, *shape)) + mean).astype(np.float32)
    dy = rng.standard_normal(x.shape).astype(np.float32)
    model = listed([layer()], shape)
    (node,) = model.graph.nodes
    arrays, key = oracles.custom_arrays(node, model.store.arrays()), oracles.node_key(node, KEY)
    result = run(model, [x], [dy])
    assert_close(result.ys[0], oracles.forward(node.layer, [x.astype(np.float64)], arrays, key), "y", 1e-6)
    (dx,), gradients = oracles.gradients(dy.astype(np.float64), node.layer, [x.astype(np.float64)], arrays, key)
    assert_close(result.dxs[0], dx, "dx", 1e-6)
    for name, gradient in gradients.items():
        assert_close(result.gradients[f"{node.name}.{name}"], gradient, name, 1e-6)


@pytest.mark.parametrize("outlier", [1e4, -1e6])
def test_outlier_in_the_first_pixel_costs_little_precision(outlier, rng):
    """Squares are summed around each group's first pixels; an outlier there affects only its own group."""
    x = rng.standard_normal((5, 30, 30, 4)).astype(np.float32)
    x[0, 0, 0] = outlier
    model = listed([nc.BatchNorm(momentum=1)], x.shape[1:])
    (*_, expected) = oracles.graph_forward(model.graph, [x], model.store.arrays(), KEY)
    assert_close(run(model, [x], [x]).ys[0], expected, "y")
    assert_close(model.state["batch_norm_1.running_var"], x.astype(np.float64).var((0, 1, 2), ddof=1), "variance")


def test_constant_channels_become_the_bias():
    x = np.full((4, 5, 6, 3), 12345.678, np.float32)
    for layer in (nc.BatchNorm(), nc.GroupNorm(3)):
        model = listed([layer], x.shape[1:])
        result = run(model, [x], [np.ones_like(x)])
        assert np.abs(result.ys[0]).max() <= 1e-4  # 1 / √eps amplifies the rounding of the mean
        np.testing.assert_allclose(result.dxs[0], 0, atol=1e-4)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_stay_in_their_channel(value):
    x = np.random.default_rng(0).standard_normal((3, 4, 5, 6)).astype(np.float32)
    x[1, 2, 3, 4] = value
    batch = np.isnan(nc.Sequential([nc.BatchNorm()], (4, 5, 6)).forward(x, training=True))
    np.testing.assert_array_equal(batch, np.broadcast_to(np.arange(6) == 4, x.shape))
    group = np.isnan(nc.functional.group_norm(x, 3))
    np.testing.assert_array_equal(group[1], np.broadcast_to(np.arange(6) // 2 == 2, (4, 5, 6)))
    assert not group[[0, 2]].any()


@given(seeds, st.integers(1, 70), st.integers(1, 9), st.integers(1, 40), st.integers(1, 70))
def test_fewer_images_never_need_more_scratch(seed, n, h, w, c):
    """Sums are split by the size of the batch, and use the scratch that was planned for the largest one."""
    smaller = np.random.default_rng(seed).integers(1, n + 1)
    planned, needed = (channels.norm_partial_shape(1, images * h, 3, w, c) for images in (n, smaller))
    assert needed[1] <= planned[1]
    assert channels.period(c) % c == 0


# -- batch normalization ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 4, 3), (7,)], ids=str)
def test_running_statistics_follow_the_batches(shape, rng):
    """Moving averages (Ioffe and Szegedy 2015) in PyTorch's convention: momentum 0.1, unbiased variance."""
    model, mean, variance = nc.Sequential([nc.BatchNorm()], shape), np.zeros(shape[-1]), np.ones(shape[-1])
    np.testing.assert_array_equal(model.state["batch_norm_1.running_var"], variance)
    axes = tuple(range(len(shape)))
    for step in range(5):
        x = (3 * rng.standard_normal((6 + step, *shape)) + step).astype(np.float32)
        model.forward(x, training=True)
        mean += 0.1 * (x.mean(axes, np.float64) - mean)
        variance += 0.1 * (x.var(axes, np.float64, ddof=1) - variance)
        assert_close(model.state["batch_norm_1.running_mean"], mean, "mean", 1e-6)
        assert_close(model.state["batch_norm_1.running_var"], variance, "variance", 1e-6)
    before = {name: array.copy() for name, array in model.state.items()}
    x = rng.standard_normal((3, *shape)).astype(np.float32)
    assert_close(model.forward(x), (x - mean) / np.sqrt(variance + 1e-5), "inference", 1e-6)
    for name, array in model.state.items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize(("momentum", "expected"), [(0, 1.0), (1, 4.0)])
def test_momentum_weights_the_new_batch(momentum, expected):
    model = nc.Sequential([nc.BatchNorm(momentum)], (1,))
    model.forward(np.array([[-np.sqrt(2)], [np.sqrt(2)]], np.float32), training=True)
    np.testing.assert_allclose(model.state["batch_norm_1.running_var"], expected, rtol=1e-6)


def test_gradient_with_fixed_statistics(rng):
    """A layer that runs in inference mode during training: its running statistics are constants."""
    model, x, dy = listed([nc.BatchNorm()], (4, 5, 3)), *(rng.standard_normal((2, 6, 4, 5, 3)).astype(np.float32))
    given = {"weight": [1, -2, 3], "bias": [4, 5, 6], "running_mean": [0.5, 0, -1], "running_var": [1, 4, 0.25]}
    model.set_parameters({f"batch_norm_1.{name}": np.array(array) for name, array in given.items()})
    result = run_planned(model, [x], [dy], Fixed)
    np.testing.assert_array_equal(result.ys[0], model.forward([x])[0])
    w, mean, variance = (np.array(given[name]) for name in ("weight", "running_mean", "running_var"))
    inverse = 1 / np.sqrt(variance + 1e-5)
    assert_close(result.dxs[0], dy * w * inverse, "dx")
    assert_close(result.gradients["batch_norm_1.weight"], (dy * (x - mean) * inverse).sum((0, 1, 2)), "d weight")
    assert_close(result.gradients["batch_norm_1.bias"], dy.astype(np.float64).sum((0, 1, 2)), "d bias")
    np.testing.assert_allclose(model.state["batch_norm_1.running_mean"], given["running_mean"])


@pytest.mark.parametrize("executor", [Executor, Fixed], ids=["batch statistics", "running statistics"])
@pytest.mark.parametrize("activation", [nc.ReLU, nc.ReLU6])
def test_a_fused_activation_has_the_bits_of_a_separate_one(activation, executor, rng):
    layers = [[nc.BatchNorm(), activation(), nc.GroupNorm(2), activation()] for _ in range(2)]
    models = [listed(part, (5, 3, 10)) for part in layers]
    for model in models:
        model.set_parameters({name: np.full(10, 5, np.float32) for name in model.parameters if name.endswith("weight")})
    plan = make_plan(models[0].graph, models[0].device.sizes, 4, training=True)
    assert [step.fused for step in plan.forward] == [activation.op, activation.op]
    x, dy = rng.standard_normal((2, 4, 5, 3, 10)).astype(np.float32)
    fused = run_planned(models[0], [x], [dy], executor)
    unfused = run_planned(models[1], [x], [dy], executor, fuse=False)
    assert (fused.ys[0] == 0).any()
    assert (fused.ys[0] > 5).any()
    assert fused.ys[0].max() == 6 or activation is nc.ReLU
    for name, array in fused.named().items():
        np.testing.assert_array_equal(array, unfused.named()[name], name)


AFTER = {
    "nothing": lambda x: x,
    "pool": nc.MaxPool2D(2, ceil_mode=True),
    "convolution": nc.Conv2D(5, 1),
    "fork": lambda x: nc.Add()([nc.Conv2D(x.shape[-1], 3, padding="same")(x), x]),
}


@pytest.mark.parametrize("executor", [Executor, Fixed], ids=["batch statistics", "running statistics"])
@pytest.mark.parametrize("after", AFTER)
@given(data=st.data())
@settings(max_examples=20)
def test_a_fused_activation_has_the_gradient_of_a_separate_one(after, executor, data):
    """To the bit, though it is computed from the input of the normalization; also at NaN, infinity and the bounds."""
    channels, draw = data.draw(st.integers(1, 80)), np.random.default_rng(data.draw(seeds))
    norm = data.draw(st.sampled_from([nc.BatchNorm, lambda: nc.GroupNorm(channels)]))
    activation = data.draw(st.sampled_from([nc.ReLU, nc.ReLU6]))
    x = start = nc.Input((data.draw(st.integers(1, 6)), data.draw(st.integers(2, 20)), channels))
    model = nc.Model([start], [AFTER[after](activation()(norm()(x)))])
    weight, bias = (name for name in model.parameters if "norm" in name)
    model.set_parameters({weight: draw.uniform(-5, 5, channels), bias: draw.choice([0, 3, 6], channels)})
    steps = make_plan(model.graph, model.device.sizes, 3, training=True, input_gradient=True).backward
    assert activation.op not in [step.node.layer.op for step in steps]
    assert steps[-1].fused == activation.op
    x, dy = (draw.standard_normal((3, *shape), np.float32) for shape in (start.shape, *output_shapes(model)))
    x[draw.random(x.shape) < 0.1] = 0  # the bounds, by running statistics
    for value in (np.nan, np.inf, -np.inf):
        x[tuple(map(draw.integers, x.shape))] = value
    for images in (x, np.nan_to_num(x, posinf=9, neginf=-9)):
        fused, unfused = (run_planned(model, [images], [dy], executor, fuse=fuse).named() for fuse in (True, False))
        for name, array in fused.items():
            np.testing.assert_array_equal(array, unfused[name], name)


@pytest.mark.parametrize("device", ["cpu", "reference"])
@pytest.mark.parametrize("activation", [nc.ReLU, nc.ReLU6])
def test_a_fused_activation_keeps_nan(activation, device):
    model = nc.Sequential([nc.BatchNorm(), activation()], (1, 1, 3), device=device)
    y = model.forward(np.array([[-9, np.nan, 9]], np.float32).reshape(1, 1, 1, 3))
    np.testing.assert_allclose(y.ravel(), [0, np.nan, min(9, 6 if activation is nc.ReLU6 else 9)], rtol=1e-4)


def test_single_value_per_channel_is_rejected_before_anything_runs(rng):
    model = nc.Sequential([nc.Dense(3), nc.BatchNorm(name="norm")], (4,))
    x = rng.standard_normal((1, 4)).astype(np.float32)
    message = 'BatchNorm "norm": 1 image of 1×1 pixels has no variance; train on batches of at least 2 images'
    with pytest.raises(nc.ArgumentError, match=message):
        model.forward(x, training=True)
    with pytest.raises(nc.ArgumentError, match=message):
        model.train_step(x, [1], nc.SGD())
    np.testing.assert_array_equal(model.state["norm.running_var"], np.ones(3))
    assert model.forward(x).shape == (1, 3)
    model.forward(np.concatenate([x, x]), training=True)
    nc.Sequential([nc.BatchNorm()], (1, 2, 4)).forward(np.ones((1, 1, 2, 4)), training=True)


def test_initializer_depends_on_the_activation_after_the_normalization():
    def deviation(*layers):
        return nc.Sequential([nc.Conv2D(64, 3, name="conv"), *layers], (8, 8, 32)).parameters["conv.weight"].std()

    he, glorot = np.sqrt(2 / (9 * 32)), np.sqrt(2 / (9 * 32 + 9 * 64))
    for layer in (nc.BatchNorm, lambda: nc.GroupNorm(8), nc.LocalResponseNorm, nc.Dropout):
        assert deviation(layer(), nc.ReLU()) == pytest.approx(he, rel=0.03)
        assert deviation(layer(), nc.Tanh()) == pytest.approx(glorot, rel=0.03)
        assert deviation(layer(), nc.Conv2D(4, 1), nc.ReLU()) == pytest.approx(glorot, rel=0.03)


def test_weight_starts_at_one_and_bias_at_zero():
    for layer in (nc.BatchNorm(name="norm"), nc.GroupNorm(2, name="norm")):
        parameters = nc.Sequential([layer], (4,), seed=5).parameters
        np.testing.assert_array_equal(parameters["norm.weight"], np.ones(4))
        np.testing.assert_array_equal(parameters["norm.bias"], np.zeros(4))


# -- other layers -----------------------------------------------------------------------------------------------------


@given(seeds, st.integers(1, 12), st.floats(0.1, 10), st.floats(-10, 10))
def test_group_norm_is_invariant_to_scale_and_shift(seed, c, scale, shift):
    x = np.random.default_rng(seed).standard_normal((2, 5, 4, c)).astype(np.float32)
    y = nc.functional.group_norm(x, 1, eps=0)
    assert_close(nc.functional.group_norm(scale * x + shift, 1, eps=0), y, "scaled and shifted", 1e-4)
    np.testing.assert_array_equal(nc.functional.group_norm(x[1:], 1, eps=0), y[1:])


def test_local_response_norm_of_alexnet_by_hand():
    x = np.array([3, 0, 4, 1, 2, 5], np.float32).reshape(1, 1, 1, 6)
    sums = np.array([25, 26, 30, 46, 46, 30])  # of squares over c − 2 … c + 2
    expected = x / (2 + 0.5 / 5 * sums) ** 0.75
    assert_close(nc.functional.local_response_norm(x, 5, 0.5, 0.75, 2), expected, "y", 1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nc.BatchNorm(momentum=1.5), "momentum=1.5: pass a number of at least 0 and at most 1"),
        (lambda: nc.BatchNorm(eps=-1e-5), "eps=-1e-05: pass a number of at least 0"),
        (lambda: nc.BatchNorm(eps=np.nan), "eps=nan"),
        (lambda: nc.BatchNorm(momentum="0.1"), "momentum='0.1'"),
        (lambda: nc.GroupNorm(0), "groups=0: pass a whole number of at least 1"),
        (lambda: nc.GroupNorm(3)(nc.Input((4, 4, 8))), "GroupNorm: 8 channels do not divide into 3 groups"),
        (lambda: nc.GroupNorm(8)(nc.Input((8,))), "8 groups of 1×1 pixels and 8 channels: 1 value has no variance"),
        (lambda: nc.LocalResponseNorm(0), "size=0"),
        (lambda: nc.LocalResponseNorm(alpha=-1), "alpha=-1"),
        (lambda: nc.LocalResponseNorm(k=np.inf), "k=inf"),
        (lambda: nc.LocalResponseNorm()(nc.Input((8,))), r"LocalResponseNorm: input must be an image"),
    ],
)
def test_invalid_arguments(make, message):
    with pytest.raises(nc.ArgumentError, match=message):
        make()
