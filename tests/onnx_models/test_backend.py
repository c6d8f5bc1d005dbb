"""ONNX's own test cases of its operators: every one is computed as it says, or rejected for a reason that is listed.

An input that has a batch becomes the network's input, the others are constants, as weights are.
"""

import re
import warnings
from collections import Counter

import numpy as np
import pytest

import numbacnn as nc
from numbacnn.engine.device import get_device

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
from_array = onnx.numpy_helper.from_array

# Reasons to leave out a case, by what its inputs and outputs are.
TYPES = {
    "sequences, optionals, strings": lambda xs, ys: any(not isinstance(x, np.ndarray) for x in [*xs, *ys]),
    "results that are not float32": lambda xs, ys: any(y.dtype != np.float32 for y in ys),
    "inputs that are not float32": lambda xs, ys: not floats(xs),
}
# Reasons to leave out a case, by the error that it is rejected with.
REASONS = {
    r"numbacnn has no layer for it|of the domain": "operators that are not of convolutional inference networks",
    r"has no counterpart|comes from|quotient|an exponent": "elementwise functions without a layer",
    r"is the batch|before the batch|joins the batch|over the batch|mixes images|moves the batch|transA|"
    r"does not depend|shape \[-1": "operations across the batch, and on values without one",
    r"windows of \d axes|must be images": "windows of one or three axes",
    r"dilations": "dilated pooling",
    r"Resize|GridSample|pixels": "resizing by fractions, cubic, and along chosen axes",
    r"a product of|a constant first factor": "products of two tensors",
    r"must be constant|constant input|several inputs|number of at most": "weights that are computed",
    r"both are broadcast|inputs of|inputs \(N|inputs differ": "tensors that broadcast each other",
    r"a constant of shape|a constant of": "constants with a batch",
    r"training_mode": "training",
    r"its weight has|some of their axes|in this order": "normalization over chosen axes",
    r"Pad|padding of": "padding by other numbers than zero, or of channels",
    r"indices|elements \d|axis|parts of|Expand|Unsqueeze|Squeeze": "indices out of order, and empty slices",
    r"a cast to|unsupported type|is (of unknown|INT|BOOL|UINT|STRING|BFLOAT|FLOAT8|COMPLEX)": "unknown numbers",
    r"has shape \[|give all sizes": "inputs without sizes",
    r"which version|does not say": "operators of training",
    r"functions and sparse": "functions, and sparse tensors",
    r"division|bounds|factor and an addend|an axis|the positions|positions of": "special forms",
}
LISTED = [
    "Add",
    "AveragePool",
    "BatchNormalization",
    "Clip",
    "Concat",
    "Conv",
    "ConvTranspose",
    "DepthToSpace",
    "Dropout",
    "Elu",
    "Flatten",
    "Gelu",
    "Gemm",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "GroupNormalization",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "InstanceNormalization",
    "LRN",
    "LeakyRelu",
    "MaxPool",
    "Mul",
    "PRelu",
    "Relu",
    "Sigmoid",
    "Slice",
    "Softmax",
    "SpaceToDepth",
    "Split",
    "Sub",
    "Sum",
    "Tanh",
    "Transpose",
]


def floats(xs):
    return [i for i, x in enumerate(xs) if x.dtype == np.float32 and x.ndim > 0 and x.size]


def computed(proto, xs, symbolic):
    """The outputs of our network, whose inputs are those numbered ``symbolic``, as the file has them."""
    proto = onnx.ModelProto.FromString(proto.SerializeToString())
    inputs = list(proto.graph.input)
    constants = [
        from_array(x, item.name) for i, (x, item) in enumerate(zip(xs, inputs, strict=True)) if i not in symbolic
    ]
    proto.graph.initializer.extend(constants)
    del proto.graph.input[:]
    proto.graph.input.extend([inputs[i] for i in symbolic])
    from numbacnn.onnx.files import content_of

    model = nc.Model.from_content(content_of(proto), get_device("cpu"))
    feeds = []
    for i, shape in zip(symbolic, model.graph.input_shapes, strict=True):
        moved = _transposes(proto, lambda node, name=inputs[i].name: name in node.input, [0, 3, 1, 2])
        feeds.append(
            xs[i].transpose(0, 2, 3, 1) if xs[i].ndim == 4 and not moved else xs[i].reshape(len(xs[i]), *shape)
        )
    ys = model.forward(feeds if len(feeds) > 1 else feeds[0])
    named = zip(ys if isinstance(ys, list) else [ys], proto.graph.output, strict=True)
    last = [_transposes(proto, lambda node, name=item.name: name in node.output, [0, 2, 3, 1]) for _, item in named]
    ys = ys if isinstance(ys, list) else [ys]
    return [y.transpose(0, 3, 1, 2) if y.ndim == 4 and not moved else y for y, moved in zip(ys, last, strict=True)]


def _transposes(proto, chosen, order):
    nodes = [node for node in proto.graph.node if chosen(node)]
    return bool(nodes) and all(
        n.op_type == "Transpose" and [list(a.ints) for a in n.attribute] == [order] for n in nodes
    )


def outcome(case):
    """ "passed", or the reason why a case is left out."""
    xs, ys = ([np.asarray(x) if isinstance(x, np.generic) else x for x in part] for part in case.data_sets[0])
    if case.name.startswith("test_training_dropout"):
        return "random numbers"
    for reason, applies in TYPES.items():
        if applies(xs, ys):
            return reason
    first, *others = floats(xs)
    batch = [first, *(i for i in others if len(xs[i]) == len(xs[first]) and xs[i].ndim == xs[first].ndim)]
    found = ""
    for symbolic in ([first], batch):
        try:
            for y, expected in zip(computed(case.model, xs, symbolic), ys, strict=True):
                y = y.reshape(expected.shape)
                np.testing.assert_allclose(y, expected, rtol=1e-3, atol=1e-5, err_msg=case.name)
            found = "passed"
        except nc.ModelFileError as error:
            found = found or next((r for p, r in REASONS.items() if re.search(p, str(error))), f"unlisted: {error}")
    return found


@pytest.mark.long
def test_every_case_is_computed_or_rejected_for_a_listed_reason():
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = [case for case in load_model_tests(kind="node") if not case.name.partition("_expanded")[1]]
    with np.errstate(all="ignore"):
        found = [(case.model.graph.node[0].op_type, outcome(case)) for case in cases]
    counts = Counter(reason for _, reason in found)
    print("\n".join(f"{count:5} {reason}" for reason, count in counts.most_common()))
    assert not [reason for reason in counts if reason.startswith("unlisted")]
    assert counts["passed"] >= 190
    passed = Counter(op for op, reason in found if reason == "passed")
    assert not [op for op in LISTED if not passed[op]]


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
