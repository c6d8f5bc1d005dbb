"""In inference, convolutions apply ReLU6 and hard-swish as they store their output: the bits are those of two steps."""

import numpy as np
import pytest
from engine import assert_close, generator_of, randomize

import numbacnn as nc
from numbacnn.engine.plan import make_plan
from numbacnn.kernels.cpu import sizes
from numbacnn.layers.algorithms import ConvEpilogue

CONVOLUTIONS = {  # by the algorithm of the forward pass
    "direct": lambda: nc.Conv2D(21, 1),
    "direct, strided": lambda: nc.Conv2D(37, 5, stride=3, padding=((2, 1), (0, 2))),
    "direct, groups": lambda: nc.Conv2D(48, 3, padding="same", groups=3, algorithm="direct"),
    "grouped": lambda: nc.Conv2D(24, 3, padding="same", groups=12),
    "depthwise": lambda: nc.DepthwiseConv2D(3, padding="same"),
    "depthwise, strided": lambda: nc.DepthwiseConv2D(5, stride=2),
    "pixel pairs": lambda: nc.Conv2D(3, 3, padding="same"),
}
ACTIVATIONS = {"relu6": nc.ReLU6, "hardswish": nc.Hardswish}


def network(*layers):
    model = nc.Sequential(layers, (13, 14, 24))
    randomize(model, generator_of("fused"))
    return model


def images(model, count):
    return 4 * generator_of("images").standard_normal((count, *model.input_shape)).astype(np.float32)


def forward_steps(model, training=False):
    return make_plan(model.graph, sizes, 3, training=training, input_gradient=False).forward


@pytest.mark.parametrize("op", ACTIVATIONS)
@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_the_bits_of_two_steps(kind, op):
    fused, alone = network(CONVOLUTIONS[kind](), ACTIVATIONS[op]()), network(CONVOLUTIONS[kind]())
    (step,) = forward_steps(fused)
    assert step.fused == op
    assert step.algorithms["forward"].name == kind.split(",")[0]
    x = images(fused, 3)
    x[0, 6, 6, 0] = np.nan
    for count in (1, 3):
        sums = alone.forward(x[:count])
        assert np.isnan(sums).any()
        assert (sums < -3).any()
        assert (sums > 6).any()
        expected = nc.Sequential([ACTIVATIONS[op]()], sums.shape[1:]).forward(sums)
        np.testing.assert_array_equal(fused.forward(x[:count]), expected)


@pytest.mark.parametrize("op", ACTIVATIONS)
def test_after_a_folded_normalization(op):
    layers = [nc.Conv2D(20, 1), nc.BatchNorm(), ACTIVATIONS[op](), nc.DepthwiseConv2D(3), nc.BatchNorm()]
    model = network(*layers, ACTIVATIONS[op]())
    assert [step.fused for step in forward_steps(model)] == [op, op]
    x = images(model, 3)
    reference = nc.Sequential([*layers, ACTIVATIONS[op]()], model.input_shape, device="reference")
    reference.set_parameters({**model.parameters, **model.state})
    assert_close(model.forward(x), reference.forward(x), op, 1e-5)


def test_where_it_is_a_step_of_its_own():
    """In training, after a residual, before a pool that could be fused, and after Winograd's algorithm."""
    x, convolution = nc.Input((8, 8, 24)), nc.Conv2D(24, 1)
    residual = nc.Model(x, nc.ReLU6()(nc.Add()([convolution(x), x])))
    winograd = network(nc.Conv2D(64, 3, algorithm="winograd2"), nc.ReLU6())
    for steps in (
        forward_steps(network(nc.Conv2D(24, 1), nc.ReLU6()), training=True),
        forward_steps(residual),
        forward_steps(winograd),
    ):
        assert [step.fused for step in steps] == [None, None]
    first, pool = forward_steps(network(nc.Conv2D(3, 3), nc.ReLU6(), nc.MaxPool2D(2)))
    assert (first.fused, first.pool) == ("relu6", None)
    assert pool.node.layer.op == "max_pool2d"


def test_a_custom_convolution_applies_what_it_declares():
    class Halved(nc.Conv2D):
        op = "halved"
        fuses = frozenset({"relu"})

        def forward(self, kernels, t, g):
            weight, bias = self.forward_weights(kernels, t)
            t.algorithms["forward"].forward(t.y, t.x, weight, bias, t.scratch("forward"), g, ConvEpilogue())
            t.y[:] = 0.5 * (np.maximum(t.y, 0) if t.fused == "relu" else t.y)

    model = network(Halved(8, 1), nc.ReLU6())
    assert [step.fused for step in forward_steps(model)] == [None, None]
    x = images(model, 2)
    assert model.forward(x).max() == 6
    np.testing.assert_array_equal(model.forward(x), model.forward(x, training=True))
