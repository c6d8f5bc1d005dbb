"""The recorded DAG of a model: order, names, shapes, and the form that model files hold. No arrays here.

Calling a layer on a symbolic tensor records a node. A graph is all that its outputs depend on.
"""

import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from numbacnn._checks import whole
from numbacnn.errors import ArgumentError, GeometryError
from numbacnn.geometry import Shape
from numbacnn.layers import Layer
from numbacnn.layers.initializers import AUTO

_recorded = itertools.count()


@dataclass(eq=False)
class Tensor:
    """A symbolic tensor: its shape for one image, and the layer whose output it is (None: an input of the model)."""

    shape: Shape
    layer: Layer | None = None
    inputs: tuple["Tensor", ...] = ()
    name: str | None = None
    order: int = field(default_factory=lambda: next(_recorded))

    def record(self, layer: Layer, inputs: Sequence["Tensor"]) -> "Tensor":
        """The output of ``layer`` on ``inputs``. Raises GeometryError with the layer and the numbers."""
        label = f'{type(layer).__name__} "{layer.name}"' if layer.name else type(layer).__name__
        wanted = "two or more inputs" if layer.inputs is None else f"{layer.inputs} input{'s' * (layer.inputs > 1)}"
        if len(inputs) < 2 if layer.inputs is None else len(inputs) != layer.inputs:
            raise ArgumentError(f"{label} needs {wanted}, not {len(inputs)}")
        try:
            shape = layer.output_shape([tensor.shape for tensor in inputs])
        except GeometryError as error:
            raise GeometryError(f"{label}: {error}") from None
        return Tensor(shape, layer, tuple(inputs))


def Input(shape: Sequence[int], name: str | None = None) -> Tensor:  # noqa: N802 (it reads as a layer does)
    """A model's input for one image: (height, width, channels), or (features,)."""
    if not isinstance(shape, Sequence) or len(shape) not in (1, 3):
        raise ArgumentError(f"input shape {shape}: give (height, width, channels) or (features,), each at least 1")
    sizes = tuple(whole(size, f"a size of input shape {tuple(shape)}") for size in shape)
    return Tensor(sizes, name=name)


@dataclass(eq=False)
class Node:
    """One layer at its place in a graph. ``inputs`` are indices of values: the graph's inputs first, then its nodes."""

    name: str
    layer: Layer
    inputs: tuple[int, ...]
    input_shapes: tuple[Shape, ...]
    shape: Shape

    @cached_property
    def geometry(self) -> Any:
        """What the layer's kernels need to know of the shapes."""
        return self.layer.geometry(self.input_shapes)

    @cached_property
    def parameters(self) -> dict[str, str]:
        """The layer's names of its parameters, by their names in the model."""
        return {f"{self.name}.{name}": name for name in self.layer.parameters(self.input_shapes)}


class Graph:
    """Nodes in order of recording, which is an order in which they can run.

    Value i is input i for i < len(inputs), else the output of node i − len(inputs). ``auxiliary`` are outputs in
    training only.
    """

    def __init__(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], auxiliary: Sequence[Tensor] = ()) -> None:
        for what, listed in (("inputs", inputs), ("outputs", [*outputs, *auxiliary])):
            if len(set(map(id, listed))) < len(listed):
                raise ArgumentError(f"a tensor stands twice among the {what}; list each once")
        if not outputs:
            raise ArgumentError("the model has no outputs")
        tensors = _reachable(inputs, [*outputs, *auxiliary])
        layers = [tensor.layer for tensor in tensors if tensor.layer is not None]
        if not layers:
            raise ArgumentError("the model has no layers between its inputs and its outputs")
        _refuse_repeated(layers)
        index = {id(tensor): i for i, tensor in enumerate([*inputs, *tensors])}
        names = _names(layers)
        self.input_names = _input_names(inputs)
        self.input_shapes = [tensor.shape for tensor in inputs]
        self.nodes = [
            Node(
                name,
                layer,
                tuple(index[id(x)] for x in tensor.inputs),
                tuple(x.shape for x in tensor.inputs),
                tensor.shape,
            )
            for name, layer, tensor in zip(names, layers, tensors, strict=True)
        ]
        self.outputs = tuple(index[id(tensor)] for tensor in outputs)
        self.auxiliary = tuple(index[id(tensor)] for tensor in auxiliary)
        taken = set(self.input_names) & set(names)
        if taken:
            raise ArgumentError(f'an input and a layer share the name "{min(taken)}"')

    @property
    def names(self) -> list[str]:
        """Name of every value: its input's or its node's."""
        return [*self.input_names, *(node.name for node in self.nodes)]

    @cached_property
    def shapes(self) -> list[Shape]:
        """Shape of every value."""
        return [*self.input_shapes, *(node.shape for node in self.nodes)]

    def value(self, node: int) -> int:
        """The value that node number ``node`` computes."""
        return len(self.input_shapes) + node

    def producer(self, value: int) -> int:
        """The number of the node that computes ``value``; negative for an input."""
        return value - len(self.input_shapes)

    @property
    def training_outputs(self) -> tuple[int, ...]:
        """The outputs, and behind them the auxiliary ones."""
        return self.outputs + self.auxiliary

    @cached_property
    def inference(self) -> "Graph":
        """The graph without the auxiliary outputs and the nodes that only they need."""
        return self.between(range(len(self.input_shapes)), self.outputs) if self.auxiliary else self

    def between(self, inputs: Sequence[int], outputs: Sequence[int]) -> "Graph":
        """The part that computes the values ``outputs`` from the values ``inputs``, of nodes of the same names.

        Behind ``inputs`` stand the graph's own inputs that it needs besides.
        """
        needed, kept = set(outputs), list[int]()
        for i in reversed(range(len(self.nodes))):
            if self.value(i) in needed and self.value(i) not in inputs:
                needed.update(self.nodes[i].inputs)
                kept.insert(0, i)
        starts = [*inputs, *(value for value in range(len(self.input_shapes)) if value in needed - {*inputs})]
        index = {value: new for new, value in enumerate([*starts, *map(self.value, kept)])}
        names, shapes = self.names, self.shapes
        graph = Graph.__new__(Graph)
        graph.input_names, graph.input_shapes = [names[i] for i in starts], [shapes[i] for i in starts]
        graph.nodes = [
            replace(self.nodes[i], inputs=tuple(index[value] for value in self.nodes[i].inputs)) for i in kept
        ]
        graph.outputs, graph.auxiliary = tuple(index[value] for value in outputs), ()
        return graph

    @cached_property
    def consumers(self) -> list[list[int]]:
        """For every value, the nodes that read it, in order."""
        consumers: list[list[int]] = [[] for _ in self.shapes]
        for i, node in enumerate(self.nodes):
            for value in node.inputs:
                consumers[value].append(i)
        return consumers

    @property
    def freezable(self) -> list[str]:
        """What can be frozen: parameters, and layers that have none (dropout is one that then runs as in inference)."""
        return [name for node in self.nodes for name in node.parameters or [node.name]]

    def parameters(self) -> dict[str, tuple[Shape, str]]:
        """Shape and initializer of every parameter, by its name "node.parameter"."""
        specifications = {}
        for i, node in enumerate(self.nodes):
            for name, parameter in node.layer.parameters(node.input_shapes).items():
                initializer = parameter.initializer
                if initializer == AUTO:
                    initializer = "he_normal" if self._is_rectified(i) else "glorot_uniform"
                specifications[f"{node.name}.{name}"] = (parameter.shape, initializer)
        return specifications

    def state(self) -> dict[str, tuple[Shape, str]]:
        """Shape and initializer of every array that is kept but not trained, by its name "node.array"."""
        return {
            f"{node.name}.{name}": (array.shape, array.initializer)
            for node in self.nodes
            for name, array in node.layer.state(node.input_shapes).items()
        }

    def with_heads(self, outputs: int) -> "Graph":
        """This graph, but with so many channels in the last layer before each output that has weights.

        Raises ArgumentError where that is no dense layer or convolution.
        """
        replacements = {}
        for node in self.nodes:
            if node.name in {self.head(value) for value in self.training_outputs}:
                attributes = node.layer.attributes()
                size = next((name for name in ("units", "filters") if name in attributes), None)
                if size is None:
                    raise ArgumentError(f'the last layer with weights, "{node.name}", is no Dense or Conv2D')
                replacements[node.name] = type(node.layer)(**attributes | {size: whole(outputs, "classes")})
        return self._recorded_with(replacements)

    def _recorded_with(self, replacements: Mapping[str, Layer]) -> "Graph":
        """This graph, recorded anew with other layers in place of the named ones."""
        tensors = [Input(shape, name) for name, shape in zip(self.input_names, self.input_shapes, strict=True)]
        inputs = list(tensors)
        for node in self.nodes:
            layer = replace(replacements.get(node.name, node.layer), name=node.name)
            read = [tensors[value] for value in node.inputs]
            tensors.append(read[0].record(layer, read))
        return Graph(inputs, [tensors[i] for i in self.outputs], [tensors[i] for i in self.auxiliary])

    def head(self, value: int) -> str:
        """Name of the node with parameters that an output comes from, by way of first inputs."""
        i = value - len(self.input_shapes)
        while i >= 0 and not self.nodes[i].parameters:
            i = self.nodes[i].inputs[0] - len(self.input_shapes)
        if i < 0:
            raise ArgumentError("an output of the model depends on no weights: it has no head to replace")
        return self.nodes[i].name

    def penalties(self) -> dict[str, tuple[float, float]]:
        """(l1, l2) of every parameter that a training step penalises, by its name."""
        return {
            f"{node.name}.{name}": (parameter.l1, parameter.l2)
            for node in self.nodes
            for name, parameter in node.layer.parameters(node.input_shapes).items()
            if parameter.l1 or parameter.l2
        }

    def _is_rectified(self, node: int) -> bool:
        """Whether an activation after ``node``, with no other weights (but a normalisation's) between, is ReLU-like."""
        seen, pending = {node}, [node]
        while pending:
            for i in set(self.consumers[self.value(pending.pop())]) - seen:
                layer = self.nodes[i].layer
                if layer.rectifies:
                    return True
                seen.add(i)
                weighs = bool(layer.parameters(self.nodes[i].input_shapes)) and not layer.normalizes
                if not layer.monotone and not weighs:
                    pending.append(i)
        return False


def _reachable(inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> list[Tensor]:
    """The recorded tensors that ``outputs`` depend on, in order; every path must start at ``inputs``."""
    known = {id(tensor) for tensor in inputs}
    found: dict[int, Tensor] = {}
    pending = [tensor for tensor in outputs if id(tensor) not in known]
    while pending:
        tensor = pending.pop()
        if id(tensor) in found:
            continue
        if tensor.layer is None:
            raise ArgumentError(f"the outputs depend on an Input of shape {tensor.shape} that is not among the inputs")
        found[id(tensor)] = tensor
        pending += [x for x in tensor.inputs if id(x) not in known]
    return sorted(found.values(), key=lambda tensor: tensor.order)


def _refuse_repeated(layers: Sequence[Layer]) -> None:
    for layer, count in Counter(map(id, layers)).items():
        if count > 1:
            repeated = next(item for item in layers if id(item) == layer)
            raise ArgumentError(f"{repeated} is used {count} times in one model; make a layer for each place")


def _names(layers: Sequence[Layer]) -> list[str]:
    """Given names as they are; the others numbered by kind, from 1, in order of recording."""
    numbers: Counter[str] = Counter()
    names = []
    for layer in layers:
        kind = layer.op
        numbers[kind] += 1
        names.append(layer.name or f"{kind}_{numbers[kind]}")
    _check_names(names)
    return names


def _input_names(inputs: Sequence[Tensor]) -> list[str]:
    names = [tensor.name or f"input_{i}" for i, tensor in enumerate(inputs, 1)]
    _check_names(names)
    return names


def _check_names(names: Sequence[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise ArgumentError(f'{count} layers are called "{name}"; give each its own name')
        if not isinstance(name, str) or not re.fullmatch(r"[\w.\-/]+", name):
            raise ArgumentError(f"{name!r} cannot be a name; use letters, digits, and . _ - /")
