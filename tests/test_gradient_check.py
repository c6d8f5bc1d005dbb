"""``nc.check_gradients``: correct layers pass; errors of wrong ones say what is wrong, and by how much."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from cases import PICKED

import numbacnn as nc
from numbacnn.errors import ArgumentError, GradientError

RIGHT = [
    (nc.Conv2D(4, 3, padding="same", stride=2), (7, 6, 3), ["x", "weight", "bias"]),
    (nc.Dense(5, name="named"), (7,), ["x", "weight", "bias"]),
    (nc.PReLU(), (4, 5, 3), ["x", "weight"]),
    (nc.Multiply(), [(4, 5, 3), (3,)], ["x[0]", "x[1]"]),
    (nc.Concat(), [(4, 5, 3), (4, 5, 2), (4, 5, 1)], ["x[0]", "x[1]", "x[2]"]),
    (nc.Flatten(), (4, 5, 3), ["x"]),
    (nc.Softmax(), (6,), ["x"]),
    (nc.AdaptiveMaxPool2D(3), (5, 7, 2), ["x"]),
]


@pytest.mark.parametrize(("layer", "shape", "names"), RIGHT, ids=lambda value: getattr(value, "op", ""))
def test_correct_gradients_pass(layer, shape, names):
    errors = nc.check_gradients(layer, shape)
    assert list(errors) == names
    assert max(errors.values()) < 1e-4


@pytest.mark.parametrize("op", sorted({case.layer().op for case in PICKED}))
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_layer_passes(op, seed):
    case = next(case for case in PICKED if case.layer().op == op)
    errors = nc.check_gradients(case.layer(), list(case.shapes), samples=8, seed=seed)
    assert max(errors.values()) < 1e-3


def test_kinks_are_left_out_for_any_seed():
    for seed in range(100):
        assert nc.check_gradients(nc.ReLU6(), (3, 4, 2), seed=seed)["x"] < 1e-4
        assert nc.check_gradients(nc.MaxPool2D(3, stride=1), (5, 4, 2), seed=seed)["x"] < 1e-4


def scaled(**wrong):
    """A layer y = weight · x whose gradients are wrong by given factors."""

    @dataclass(eq=False)
    class Scaled(nc.Layer):
        op: ClassVar[str] = "scaled"
        reads_x: ClassVar[bool] = wrong.get("reads_x", True)

        def parameters(self, shapes):
            return {"weight": nc.ParameterSpec(shapes[0][-1:], "ones")}

        def forward(self, kernels, t, g):
            t.y[: wrong.get("images")] = t.x[: wrong.get("images")] * t.weight

        def backward(self, kernels, t, g):
            if "weight" in wrong:
                t.d_weight[...] = wrong["weight"] * np.sum(t.dy * t.x, (0, 1, 2))
            t.dx[...] = wrong.get("x", 1) * t.dy * t.weight

    return Scaled()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"weight": 1, "x": 1.01}, r"^Scaled: the gradient of x is off by 0\.0099 of its norm; most at "
         r"\(\d, \d, \d, \d\), where backward gives -?\d\.\d+ and a central difference -?\d\.\d+$"),
        ({"weight": -1}, r"^Scaled: the gradient of weight is off by 2 of its norm; most at \(\d,\), where"),
        ({}, r"^Scaled: the gradient of weight is nan at \(0,\); backward must write all of it, and not read "
         r"t.y without reads_y$"),
        ({"weight": 1, "reads_x": False}, r"gradient of weight is nan .* not read t.x without reads_x or t.y without"),
        ({"weight": 1, "images": 1}, r"^Scaled: forward gives nan at \(1, 0, 0, 0\); it must write every"),
    ],
)  # fmt: skip
def test_wrong_gradients_are_named(wrong, message):
    with pytest.raises(GradientError, match=message) as error:
        nc.check_gradients(scaled(**wrong), (4, 5, 3))
    assert "\n" not in str(error.value)


def test_a_forward_that_leaves_its_domain_is_reported():
    calls = []

    @dataclass(eq=False)
    class Domain(nc.Layer):
        op: ClassVar[str] = "domain"

        def forward(self, kernels, t, g):
            calls.append(self.op)
            t.y[...] = t.x if len(calls) <= 2 else np.nan

        def backward(self, kernels, t, g):
            t.dx[...] = t.dy

    with pytest.raises(GradientError, match=r"^Domain: forward is not finite where x moves by 0\.0625$"):
        nc.check_gradients(Domain(), (3,))


def test_reported_indices_are_in_the_given_shapes():
    with pytest.raises(
        GradientError, match=r"gradient of x is off by 1 of its norm; most at \(\d, \d\), where backward"
    ):
        nc.check_gradients(nc.custom_activation("stopped", lambda x: x * x, lambda dy, x: np.float32(0))(), (5,))


def test_the_tolerance_can_be_chosen():
    layer = scaled(weight=1.02, x=1)
    assert nc.check_gradients(layer, (4, 5, 3), tolerance=0.05)["weight"] == pytest.approx(0.0196, rel=0.01)


@pytest.mark.parametrize("options", [{"batch": 0}, {"samples": 0}, {"input_shape": (3, 4)}, {"input_shape": 3}])
def test_arguments_out_of_range_are_rejected(options):
    with pytest.raises(ArgumentError):
        nc.check_gradients(nc.ReLU(), **{"input_shape": (3,)} | options)
