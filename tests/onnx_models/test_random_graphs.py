"""Random small graphs of every operator that is read: ours compute what onnx's reference or onnxruntime do.

``python tests/onnx_models/test_random_graphs.py COUNT [FIRST] [OPERATOR]`` draws more, and prints what was rejected.
"""

import sys
from collections import Counter

import numpy as np
import pytest

import numbacnn as nc

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

import random_graphs  # noqa: E402
from backend import as_stored, fed  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

from numbacnn.engine.device import get_device  # noqa: E402
from numbacnn.onnx.files import content_of  # noqa: E402

MAX_ERROR = 2e-4  # relative to the largest number of a result
MANY = 4000


def ours(proto, xs):
    """The outputs of the imported network, in ONNX's layout."""
    model = nc.Model.from_content(content_of(proto), get_device("cpu"))
    feeds = [
        fed(proto, xs[item.name], item.name, shape)
        for item, shape in zip(proto.graph.input, model.graph.input_shapes, strict=True)
    ]
    ys = model.forward(feeds if len(feeds) > 1 else feeds[0])
    named = zip(proto.graph.output, ys if isinstance(ys, list) else [ys], strict=True)
    return {item.name: as_stored(proto, y, item.name, True) for item, y in named}


def of_onnxruntime(proto, xs):
    """Its outputs, or None if it rejects the file."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return dict(zip((item.name for item in proto.graph.output), session.run(None, xs), strict=True))
    except Exception:  # it raises classes of its own
        return None


def of_reference(proto, xs):
    with np.errstate(all="ignore"):
        found = ReferenceEvaluator(proto).run(None, xs)
    return dict(zip((item.name for item in proto.graph.output), found, strict=True))


def apart(found, expected):
    """The name of the first result that differs, or None."""
    for name, y in expected.items():
        ours = found[name]
        if ours.size != y.size:
            return name
        wrong = np.abs(ours.reshape(y.shape).astype(np.float64) - y)
        if not (wrong <= MAX_ERROR * max(1.0, float(np.abs(y).max()))).all():
            return name
    return None


def outcome(seed, kind=None):
    """ "same", "as onnxruntime", "unstable", or the error of a graph that is rejected. Raises AssertionError."""
    proto, xs, expected = random_graphs.draw(seed, kind)
    try:
        found = ours(proto, xs)
    except nc.ModelFileError as error:
        return f"rejected: {error}"
    if apart(found, expected) is None:
        return "same"
    peer = of_onnxruntime(proto, xs)
    if peer is not None and all(
        apart(found, {k: y}) is None or apart(found, {k: peer[k]}) is None for k, y in expected.items()
    ):
        return "as onnxruntime"
    for factor in (1 + 3e-7, 1 - 3e-7):  # where rounding decides
        moved = {name: (x * np.float32(factor)).astype(np.float32) for name, x in xs.items()}
        if apart(of_reference(proto, moved), expected):
            return "unstable"
    name = apart(found, expected)
    y = found[name].reshape(-1)[:6], expected[name].reshape(-1)[:6]
    known = "rejects it" if peer is None else "agrees with it" if apart(peer, expected) is None else "differs from both"
    raise AssertionError(f"seed {seed}: {name} is {y[0]}, not {y[1]}; onnxruntime {known}\n{shown(proto)}")


def shown(proto):
    sizes = {item.name: tuple(item.dims) for item in proto.graph.initializer}
    given = [f"{i.name} {[d.dim_value for d in i.type.tensor_type.shape.dim]}" for i in proto.graph.input]
    lines = [f"opset {proto.opset_import[0].version}, inputs {given}, outputs {[o.name for o in proto.graph.output]}"]
    for node in proto.graph.node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        sources = [f"{name}{sizes.get(name, '')}" for name in node.input]
        lines.append(f"  {', '.join(node.output)} = {node.op_type}({', '.join(sources)}) {attributes}")
    return "\n".join(lines)


@pytest.mark.parametrize("kind", random_graphs.KINDS)
def test_every_operator_in_random_graphs(kind):
    found = Counter(outcome(seed, kind).partition(":")[0] for seed in range(2))
    assert found["rejected"] < 2


@pytest.mark.long
@pytest.mark.huge
@pytest.mark.parametrize("first", range(0, MANY, 500))
def test_many_random_graphs(first):
    found = Counter(outcome(seed).partition(":")[0] for seed in range(first, first + 500))
    print(dict(found))
    assert found["same"] + found["as onnxruntime"] > 350


if __name__ == "__main__":
    count, first = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    results, failed = Counter(), 0
    for number in range(first, first + count):
        try:
            results[outcome(number, *sys.argv[3:4])] += 1
        except AssertionError as error:
            print(error, flush=True)
            failed += 1
        except Exception as error:
            print(f"seed {number}: {error!r}", flush=True)
            failed += 1
    for text, n in results.most_common(80):
        print(f"{n:6} {text}")
    print(f"{count} graphs, {failed} failed")
