"""ONNX's own test cases of operators and small networks: each is computed as it says, or left out for a listed reason.

``pytest -m long -s tests/onnx_models/test_backend.py`` prints how many. A "folded" case is computed if all its inputs
are constants, by onnx's reference when the file is read; "passed" is computed by our kernels.
"""

import warnings
from collections import Counter

import numpy as np
import pytest

import numbacnn as nc

onnx = pytest.importorskip("onnx", reason="onnx is not installed")

import backend  # noqa: E402
import exclusions  # noqa: E402

KINDS = {  # kind → passed and folded at least
    "node": (444, 405),
    "pytorch-converted": (67, 2),
    "pytorch-operator": (30, 1),
    "simple": (7, 0),
}
LISTED = {  # 2-D operators of inference networks, all of whose cases of float numbers are passed, but those left out
    *("Add", "ArgMax", "AveragePool", "BatchNormalization", "Clip", "Concat", "Conv", "ConvTranspose", "DepthToSpace"),
    *("Div", "Dropout", "Elu", "Erf", "Flatten", "Gelu", "Gemm", "GlobalAveragePool", "GlobalMaxPool"),
    *("GroupNormalization", "HardSigmoid", "HardSwish", "Identity", "InstanceNormalization", "LRN", "LeakyRelu"),
    *("LogSoftmax", "MatMul", "Max", "MaxPool", "Min", "Mish", "Mul", "PRelu", "Pad", "Pow", "ReduceMax", "ReduceMean"),
    *("ReduceSum", "Relu", "Reshape", "Resize", "Sigmoid", "Slice", "Softmax", "Softplus", "Softsign", "SpaceToDepth"),
    *("Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tanh", "Transpose", "Unsqueeze"),
}


def found(kind):
    """[(case, "passed", "folded" or an error, why it is left out or None)]."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [(case, _outcome(case), exclusions.reason(case)) for case in backend.cases(kind)]


def _outcome(case):
    try:
        return backend.outcome(case)
    except AssertionError as error:
        return f"wrong: {' '.join(str(error).split())[:200]}"


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_every_case_is_computed_or_left_out_for_a_reason(kind):
    results = found(kind)
    counts = Counter(outcome if outcome in ("passed", "folded") else str(why) for _, outcome, why in results)
    excluded = len(results) - counts["passed"] - counts["folded"]
    print(f"\n{kind}: {len(results)} cases, {counts['passed']} passed, {counts['folded']} folded, {excluded} left out")
    print("\n".join(f"{n:6} {why}" for why, n in counts.most_common() if why not in ("passed", "folded")))
    computed = ("passed", "folded")
    failed = [(case.name, outcome) for case, outcome, why in results if why is None and outcome not in computed]
    assert not failed
    stale = [case.name for case, outcome, why in results if why is not None and outcome in computed]
    assert not stale
    passed, folded = KINDS[kind]
    assert counts["passed"] >= passed
    assert counts["folded"] >= folded


@pytest.mark.long
def test_listed_operators_are_in_no_exclusion_by_operator():
    assert not LISTED & set(exclusions.BY_OP)
    passed = {case.op for case, outcome, _ in found("node") if outcome == "passed"}
    assert LISTED - {"ArgMax"} <= passed


NETWORKS = (
    *("bvlc_alexnet", "densenet121", "inception_v1", "inception_v2", "resnet50"),
    *("shufflenet", "squeezenet", "vgg19", "zfnet512"),
)


@pytest.mark.long
@pytest.mark.parametrize("name", NETWORKS)
def test_light_networks_agree_with_onnxruntime(name):
    """Their weights are computed, and so are limited unless the caller says otherwise."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    path = f"{onnx.__path__[0]}/backend/test/data/light/light_{name}.onnx"
    model = nc.onnx.load(path, max_computed=1 << 28)
    x = np.random.default_rng(0).standard_normal((1, *model.input_shape)).astype(np.float32)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    stored = {item.name for item in onnx.load(path).graph.initializer}
    (given,) = [item.name for item in session.get_inputs() if item.name not in stored]
    (y,) = session.run(None, {given: np.ascontiguousarray(x.transpose(0, 3, 1, 2))})
    np.testing.assert_allclose(model.forward(x).reshape(-1), y.reshape(-1), rtol=1e-4)
