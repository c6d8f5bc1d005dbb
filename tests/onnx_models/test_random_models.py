"""Random small models of every layer: exported with any options, they compute in onnxruntime what they compute here.

``python tests/onnx_models/test_random_models.py COUNT [FIRST]`` draws more.
"""

import sys
import tempfile
from collections import Counter
from math import prod
from pathlib import Path
from random import Random

import numpy as np
import pytest
from cases import OPS
from engine import randomize

import numbacnn as nc

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

MAX_ERROR, LIMIT, LARGEST = 2e-4, 1e4, 3_000
MANY = 2000
SHAPES = ((5, 6, 4), (4, 4, 6), (7, 3, 1), (2, 2, 8), (12,), (1, 1, 6), (3, 9, 2))
SPARE = ("batch_norm", "conv2d", "conv2d_transpose", "depthwise_conv2d", "dense", "flatten", "concat", "add")


class Drawing:
    """A model while it is drawn. Layers are those of the ops' cases."""

    def __init__(self, seed):
        self.random = Random(seed)
        self.inputs = [nc.Input(self.random.choice(SHAPES)) for _ in range(self.random.choice((1, 1, 1, 2)))]
        self.values = list(self.inputs)

    def extend(self, op):
        """Apply a layer to one of the last values, or to several of one shape; say whether it fits."""
        layer = self.random.choice([*OPS[op].picked, *OPS[op].drawn()]).layer()
        x = self.values[-1] if self.random.random() < 0.6 else self.random.choice(self.values)
        xs = [x]
        if layer.inputs != 1:
            same = [v for v in self.values if v.shape == x.shape or (op == "concat" and v.shape[:-1] == x.shape[:-1])]
            if op == "multiply" and len(x.shape) == 3 and self.random.random() < 0.5:
                same = [nc.GlobalAvgPool2D()(x)]
            xs += [self.random.choice(same) for _ in range(1 if layer.inputs else self.random.choice((1, 2)))]
        try:
            y = layer(xs if len(xs) > 1 else x)
        except ValueError:
            return False
        if prod(y.shape) > LARGEST:
            return False
        self.values.append(y)
        return True

    def model(self):
        read = {id(x) for value in self.values if value.layer for x in value.inputs}
        made = self.values[len(self.inputs) :]
        outputs = [y for y in made if id(y) not in read or self.random.random() < 0.15]
        used, pending = set(), list(outputs)
        while pending:
            value = pending.pop()
            used.add(id(value))
            pending += value.inputs if value.layer else []
        return nc.Model([x for x in self.inputs if id(x) in used], outputs)


def draw(seed, op):
    """A model with a layer of this op, its inputs, and options of the export."""
    drawing = Drawing(seed)
    ops = list(OPS)
    for _ in range(drawing.random.randrange(3)):
        drawing.extend(drawing.random.choice((*ops, *SPARE)))
    for _ in range(20):
        if drawing.extend(op):
            break
    for _ in range(drawing.random.randrange(4)):
        drawing.extend(drawing.random.choice((*ops, *SPARE, *SPARE)))
    if len(drawing.values) == len(drawing.inputs):
        drawing.extend("relu")
    model, numbers = drawing.model(), np.random.default_rng(seed)
    randomize(model, numbers)
    xs = [numbers.standard_normal((2, *shape)).astype(np.float32) for shape in model.graph.input_shapes]
    choice = drawing.random.choice
    options = {"opset": choice(range(15, 23)), "layout": choice(("nchw", "nhwc")), "fold": choice((False, True))}
    return model, xs, options


def outcome(seed, op, folder):
    """ "same", "unusual", or the error of a model that is rejected. Raises AssertionError if results differ."""
    model, xs, options = draw(seed, op)
    expected = model.forward(xs)
    if not all(np.isfinite(y).all() and np.abs(y).max() < LIMIT for y in expected):
        return "unusual"
    path = folder / "m.onnx"
    try:
        nc.onnx.save(model, path, **options)
    except nc.NumbacnnError as error:
        return f"rejected: {error}"
    what = f"seed {seed}, {op}, {options}: {[(n.name, n.input_shapes, n.layer) for n in model.graph.nodes]}"
    compare(in_onnxruntime(path, model, xs, options["layout"]), expected, f"onnxruntime, {what}", model, xs)
    compare(nc.load(path).forward(xs if len(xs) > 1 else xs[0]), expected, f"read again, {what}", model, xs)
    return "same"


def in_onnxruntime(path, model, xs, layout):
    session_options = onnxruntime.SessionOptions()
    session_options.intra_op_num_threads, session_options.log_severity_level = 1, 4
    session = onnxruntime.InferenceSession(path, session_options, providers=["CPUExecutionProvider"])
    move = layout == "nchw"
    feeds = {
        name: np.ascontiguousarray(x.transpose(0, 3, 1, 2) if move and x.ndim == 4 else x)
        for name, x in zip(model.graph.input_names, xs, strict=True)
    }
    return [y.transpose(0, 2, 3, 1) if move and y.ndim == 4 else y for y in session.run(None, feeds)]


def compare(found, expected, what, model, xs):
    for i, (y, right) in enumerate(zip(found if isinstance(found, list) else [found], expected, strict=True)):
        assert y.shape == right.shape, f"{what}: output {i} is {y.shape}, not {right.shape}"
        if not close(y, right) and not unstable(model, xs, i):
            raise AssertionError(f"{what}: output {i} is {y.reshape(-1)[:6]}, not {right.reshape(-1)[:6]}")


def close(y, right):
    return bool((np.abs(y - right) <= MAX_ERROR * max(1.0, float(np.abs(right).max()))).all())


def unstable(model, xs, i):
    """Whether rounding decides: images that hardly differ give another result."""
    right = model.forward(xs)[i]
    moved = [[(x * np.float32(factor)).astype(np.float32) for x in xs] for factor in (1 + 3e-7, 1 - 3e-7)]
    return any(not close(model.forward(near)[i], right) for near in moved)


@pytest.mark.parametrize("op", OPS)
def test_every_layer_in_random_models(op, tmp_path):
    found = Counter(outcome(seed, op, tmp_path).partition(":")[0] for seed in range(2))
    assert found["rejected"] < 2


@pytest.mark.long
@pytest.mark.huge
@pytest.mark.parametrize("first", range(0, MANY, 500))
def test_many_random_models(first, tmp_path):
    ops = list(OPS)
    found = Counter(
        outcome(seed, ops[seed % len(ops)], tmp_path).partition(":")[0] for seed in range(first, first + 500)
    )
    print(dict(found))
    assert found["same"] > 300


if __name__ == "__main__":
    count, first = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    results, failed, ops = Counter(), 0, list(OPS)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(first, first + count):
            try:
                results[outcome(number, ops[number % len(ops)], Path(folder))] += 1
            except AssertionError as error:
                print(error, flush=True)
                failed += 1
            except Exception as error:
                print(f"seed {number}: {error!r}", flush=True)
                failed += 1
    for text, n in results.most_common(40):
        print(f"{n:6} {text}")
    print(f"{count} models, {failed} failed")
