"""Which images have their channels last: those that a file moves before its first window, or after its last.

TensorFlow and Keras have images N×H×W×C, and their converter writes transposes to and from N×C×H×W. Before the first
and after the last may be operators that keep the axes, such as a normalization of pixels, padding or a sigmoid.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import onnx

TO_FIRST, TO_LAST = [0, 3, 1, 2], [0, 2, 3, 1]
KEEP_AXES = {
    *(
        "Add",
        "Cast",
        "Clip",
        "Div",
        "Dropout",
        "Elu",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "LeakyRelu",
        "LogSoftmax",
    ),
    *("Max", "Min", "Mul", "Neg", "Pad", "Pow", "Relu", "Sigmoid", "Softmax", "Sqrt", "Sub", "Tanh"),
}
MAX_STEPS = 100  # operators before the first transpose, or after the last


def channels_last(graph: onnx.GraphProto) -> set[str]:
    """Return the names of inputs and outputs that are images with their channels last."""
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    makers: dict[str, onnx.NodeProto] = {}
    for node in graph.node:
        makers.update(dict.fromkeys(node.output, node))
        for name in dict.fromkeys(node.input):
            readers[name].append(node)
    outputs = {item.name for item in graph.output}
    found = {item.name for item in graph.input if _moved_first(item.name, readers, outputs)}
    stored = {tensor.name for tensor in graph.initializer}
    return found | {name for name in outputs if _moved_last(name, makers, stored, found)}


def _moved_first(name: str, readers: Mapping[str, Sequence[onnx.NodeProto]], outputs: set[str]) -> bool:
    """Return whether all that is made of an input is moved to channels first."""
    pending, seen, moved = [name], {name}, False
    while pending:
        current = pending.pop()
        if current in outputs or len(seen) > MAX_STEPS:
            return False
        for node in readers.get(current, ()):
            if node.op_type == "Transpose":
                if _order(node) != TO_FIRST:
                    return False
                moved = True
            elif node.op_type not in KEEP_AXES:
                return False
            elif node.output and node.output[0] not in seen:
                seen.add(node.output[0])
                pending.append(node.output[0])
    return moved


def _moved_last(name: str, makers: Mapping[str, onnx.NodeProto], stored: set[str], inputs: set[str]) -> bool:
    """Return whether an output is made of what is moved to channels last."""
    for _ in range(MAX_STEPS):
        node = makers.get(name)
        if node is None:
            return name in inputs
        if node.op_type == "Transpose":
            return _order(node) == TO_LAST
        if node.op_type not in KEEP_AXES:
            return False
        constants = {part for part in node.input if part in stored or _is_constant(makers.get(part))}
        name = next((part for part in node.input if part not in constants), "")
    return False


def _is_constant(node: onnx.NodeProto | None) -> bool:
    return node is not None and node.op_type == "Constant"


def _order(node: onnx.NodeProto) -> list[int]:
    return next((list(item.ints) for item in node.attribute if item.name == "perm"), [])
