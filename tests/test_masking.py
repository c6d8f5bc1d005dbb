"""The gradient of a ReLU, fused into the input gradient of the layer after it: the same as that of the ReLU alone."""

import numpy as np
import pytest
from engine import assert_results_close, normals, oracle, output_shapes, randomize, run, run_planned
from graphs import listed

import numbacnn as nc
from numbacnn.engine.plan import make_plan
from numbacnn.kernels.cpu import sizes

BEFORE = {
    "convolution": lambda: [nc.Conv2D(6, 1), nc.ReLU()],
    "pool": lambda: [nc.Conv2D(6, 1), nc.ReLU(), nc.MaxPool2D(2)],
    "normalization": lambda: [nc.Conv2D(6, 1, bias=False), nc.BatchNorm(), nc.ReLU()],
}
AFTER = {
    "3×3": lambda: [nc.Conv2D(10, 3, padding="same")],
    "wide": lambda: [nc.Conv2D(37, 1), nc.ReLU(), nc.Conv2D(5, 3)],
    "asymmetric padding and phases": lambda: [nc.Conv2D(9, 3, stride=(2, 3), padding=((2, 0), (0, 1)))],
    "stride over window": lambda: [nc.Conv2D(7, 1, stride=2)],
    "dilation": lambda: [nc.Conv2D(3, 2, dilation=2)],
    "groups": lambda: [nc.Conv2D(4, 3, groups=2)],
    "depthwise": lambda: [nc.DepthwiseConv2D(3)],
    "col2im": lambda: [nc.Conv2D(16, 4)],
    "winograd2": lambda: [nc.Conv2D(5, 3, algorithm="winograd2")],
    "winograd2, 5×5": lambda: [nc.Conv2D(5, 5, algorithm="winograd2")],
    "winograd4": lambda: [nc.Conv2D(5, 3, padding=1, algorithm="winograd4")],
    "max-pool": lambda: [nc.Conv2D(16, 3), nc.Tanh(), nc.MaxPool2D(2)],
    "dense": lambda: [nc.Flatten(), nc.Dense(11), nc.ReLU(), nc.Dense(3)],
}


def masks(model):
    """Return the names of the layers that apply the gradient of the ReLU before them."""
    return [step.node.name for step in make_plan(model.graph, sizes, 2, training=True).backward if step.masks]


@pytest.mark.parametrize("after", AFTER)
@pytest.mark.parametrize("before", BEFORE)
def test_fused_gradients_match_the_oracle_and_the_unfused_plan(before, after):
    model = listed(nc.Sequential([*BEFORE[before](), *AFTER[after]()], (14, 13, 3)))
    assert before == "normalization" or masks(model)  # that applies the gradient of its ReLU itself
    assert "relu" not in [step.node.layer.op for step in make_plan(model.graph, sizes, 2, training=True).backward]
    draw = np.random.default_rng(0)
    randomize(model, draw)
    xs, dys = normals(draw, model.graph.input_shapes, 3), normals(draw, output_shapes(model), 3)
    found = run(model, xs, dys)
    assert_results_close(found, oracle(model, xs, dys), "oracle")
    assert_results_close(found, run_planned(model, xs, dys, fuse=False), "unfused", 1e-5)


def test_relus_with_several_readers_or_before_other_layers_are_not_fused():
    x = nc.Input((6, 6, 3))
    h = nc.ReLU()(nc.Conv2D(4, 3)(x))
    assert not masks(nc.Model(x, nc.Add()([nc.Conv2D(4, 1)(h), h])))
    assert not masks(nc.Sequential([nc.Conv2D(4, 3), nc.ReLU(), nc.AvgPool2D(2)], (6, 6, 3)))
    assert not masks(nc.Sequential([nc.Conv2D(4, 3), nc.ReLU(), nc.Conv2DTranspose(4, 3)], (6, 6, 3)))
    assert not masks(nc.Sequential([nc.Conv2D(4, 3), nc.Sigmoid(), nc.Conv2D(4, 3)], (6, 6, 3)))
    assert not masks(nc.Model(x, [h, nc.Conv2D(4, 1)(h)]))


def test_nan_passes_as_it_does_through_a_relu():
    model = listed(nc.Sequential([nc.Conv2D(4, 1), nc.ReLU(), nc.Conv2D(5, 1)], (3, 3, 2)))
    randomize(model, np.random.default_rng(0))
    x, dy = np.ones((1, 3, 3, 2), np.float32), np.ones((1, 3, 3, 5), np.float32)
    x[0, 1, 1] = np.nan
    found, unfused = run(model, [x], [dy]), run_planned(model, [x], [dy], fuse=False)
    np.testing.assert_array_equal(found.dxs, unfused.dxs)
