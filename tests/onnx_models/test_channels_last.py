"""Graphs as TensorFlow's converter writes them: images N×H×W×C, transposes at both ends, and operators around them."""

import numpy as np
import pytest
from engine import assert_close, generator_of

import numbacnn as nc

onnx = pytest.importorskip("onnx", reason="onnx is not installed")

from onnx.reference import ReferenceEvaluator  # noqa: E402
from onnx_graphs import F, graph_of, loaded, ops_of  # noqa: E402

FIRST, LAST = {"perm": (0, 3, 1, 2)}, {"perm": (0, 2, 3, 1)}


def numbers(name):
    draw = generator_of(name).standard_normal
    return {
        "mean": np.array([0.5, 0.4, 0.3], F),
        "deviation": np.array([0.2, 0.3, 0.4], F),
        "pads": np.array([0, 0, 0, 0, 0, 1, 1, 0]),
        "w": draw((8, 3, 3, 3)).astype(F),
        "d": draw((8, 1, 3, 3)).astype(F),
        "v": draw((6, 8, 1, 1)).astype(F),
        **{name: draw(8).astype(F) for name in ("b", "scale", "shift", "c")},
        **{name: draw((1, 8, 1, 1)).astype(F) for name in ("factor", "addend")},
        "e": draw(6).astype(F),
        "dense": draw((6, 5)).astype(F),
        "f": draw(5).astype(F),
        "zero": F(0),
        "six": F(6),
        "axes": np.array([1, 2]),
        "end": np.array([2, 3]),
    }


BODY = [
    ("Sub", "x mean", "x1", {}),
    ("Div", "x1 deviation", "x2", {}),
    ("Pad", "x2 pads", "x3", {}),
    ("Transpose", "x3", "x4", FIRST),
    ("Conv", "x4 w", "a", {"strides": (2, 2)}),
    ("Transpose", "a", "a1", LAST),  # a bias of the last axis
    ("Add", "a1 b", "a2", {}),
    ("Mul", "a2 scale", "a3", {}),  # a normalization as a product and a sum
    ("Add", "a3 shift", "a4", {}),
    ("Relu", "a4", "a5", {}),
    ("Transpose", "a5", "a6", FIRST),
    ("Conv", "a6 d", "h", {"group": 8, "pads": (1, 1, 1, 1)}),
    ("Mul", "h factor", "h1", {}),
    ("Add", "h1 addend", "h2", {}),
    ("Clip", "h2 zero six", "h3", {}),
    ("Conv", "h3 v", "g", {}),
    ("Transpose", "g", "g1", LAST),
    ("Add", "g1 e", "g2", {}),
]
CLASSIFIER = [
    ("ReduceMean", "g2 axes", "p", {"keepdims": 0}),
    ("MatMul", "p dense", "q", {}),
    ("Add", "q f", "q1", {}),
    ("Softmax", "q1", "y", {}),
]
HEADS = {
    "classes": (CLASSIFIER, ["global_avg_pool2d", "dense", "softmax"]),
    "pixels": ([("Sigmoid", "g2", "y", {})], ["sigmoid"]),
    "pixels, transposed last": (
        [("Transpose", "g2", "z", FIRST), ("Tanh", "z", "z1", {}), ("Transpose", "z1", "y", LAST)],
        ["tanh"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("head", HEADS)
def test_transposes_vanish(head, tmp_path):
    nodes, ops = HEADS[head]
    proto = graph_of([*BODY, *nodes], (8, 9, 3), numbers(head))
    model = loaded(tmp_path / "m.onnx", proto)
    assert model.input_shape == (8, 9, 3)
    body = ["depthwise_conv2d", "zero_pad2d", "conv2d", "relu", "depthwise_conv2d", "relu6", "conv2d"]
    assert ops_of(model) == [*body, *ops]
    x = generator_of(head).standard_normal((2, 8, 9, 3)).astype(F)
    (expected,) = ReferenceEvaluator(proto).run(None, {"x": x})
    assert_close(model.forward(x), expected, head)  # in the file's order, channels last


def test_an_image_of_channels_last_between_others(tmp_path):
    """Only what is moved before anything else reads it is an image with its channels last."""
    nodes = [
        ("Transpose", "x", "a", FIRST),
        ("Relu", "x", "b", {}),
        ("Transpose", "a", "c", LAST),
        ("Add", "b c", "y", {}),
    ]
    proto = graph_of(nodes, (4, 5, 3), outputs=("y",))
    model = loaded(tmp_path / "m.onnx", proto)
    assert model.input_shape == (5, 3, 4)
    x = generator_of("x").standard_normal((2, 4, 5, 3)).astype(F)
    (expected,) = ReferenceEvaluator(proto).run(None, {"x": x})
    assert_close(model.forward(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2), expected, "y")


def test_networks_of_channels_last_train(tmp_path):
    model = loaded(
        tmp_path / "m.onnx", graph_of([*BODY, *CLASSIFIER[:-1], ("Identity", "q1", "y", {})], (8, 9, 3), numbers("t"))
    )
    images = generator_of("x").standard_normal((8, 8, 9, 3)).astype(F)
    optimizer = nc.SGD(0.01)
    losses = [model.train_step(images, np.arange(8) % 5, optimizer) for _ in range(20)]
    assert losses[-1] < losses[0]
