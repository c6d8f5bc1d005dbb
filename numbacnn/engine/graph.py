"""The recorded DAG of a model, without arrays: order, names and shapes.

Calling a layer on a symbolic tensor records a node. A graph is everything that its outputs depend on.
"""

import itertools
import re
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import NoReturn

from numbacnn._checks import python_numbers, shown, whole
from numbacnn._checks.attributes import NO_SCALE
from numbacnn._checks.names import AnswersAttributes, checks_arguments
from numbacnn.errors import ArgumentError, GeometryError
from numbacnn.geometry import Halo, Shape
from numbacnn.layers import Add, Layer, Multiply
from numbacnn.layers.base import Geometry, ParameterSpec, ScratchSpec
from numbacnn.layers.bindings import Sizes
from numbacnn.layers.checks import checked_shape, checked_specs
from numbacnn.layers.initializers import AUTO
from numbacnn.layers.registry import is_custom

_order = itertools.count()


@dataclass(eq=False)
class Tensor(AnswersAttributes):
    """A symbolic tensor: its shape for one image, and the layer whose output it is, or None for an input."""

    shape: Shape
    layer: Layer | None = None
    inputs: tuple["Tensor", ...] = ()
    name: str | None = None
    order: int = field(default_factory=lambda: next(_order))  # of recording

    def record(self, layer: Layer, inputs: Sequence["Tensor"]) -> "Tensor":
        """Return the output of ``layer`` on ``inputs``. Raises GeometryError, with the layer, if shapes do not fit."""
        label = f'{type(layer).__name__} "{layer.name}"' if layer.name else type(layer).__name__
        needed = "two or more inputs" if layer.inputs is None else f"{layer.inputs} input{'s' * (layer.inputs > 1)}"
        if len(inputs) < 2 if layer.inputs is None else len(inputs) != layer.inputs:
            raise ArgumentError(f"{label} needs {needed}, not {len(inputs)}")
        try:
            shape = layer.output_shape([tensor.shape for tensor in inputs])
        except GeometryError as error:
            raise GeometryError(f"{label}: {error}") from None
        if is_custom(type(layer)):
            shape = checked_shape(shape, label)
        return Tensor(shape, layer, tuple(inputs))

    def __add__(self, other: "Tensor") -> "Tensor":
        """Return ``Add()([self, other])``."""
        return Add()([self, other]) if isinstance(other, Tensor) else _no_number()

    def __radd__(self, other: int) -> "Tensor":
        """Return the tensor for 0 + x, so that ``sum`` adds tensors."""
        return self if isinstance(other, int) and other == 0 else _no_number()

    def __mul__(self, other: "Tensor") -> "Tensor":
        """Return ``Multiply()([self, other])``."""
        return Multiply()([self, other]) if isinstance(other, Tensor) else _no_number()


def _no_number() -> NoReturn:
    """Answer arithmetic with a number."""
    raise ArgumentError(NO_SCALE)


@checks_arguments
def Input(shape: Sequence[int], name: str | None = None) -> Tensor:  # noqa: N802 (it is used like a layer)
    """Return a model's input, with its shape for one image: (height, width, channels) or (features,)."""
    shape = python_numbers(shape, arrays=True)
    if not isinstance(shape, Sequence) or len(shape) not in (1, 3):
        raise ArgumentError(
            f"input shape {shown(shape)}: use (height, width, channels) or (features,), each at least 1"
            f"{', without the number of images' if isinstance(shape, Sequence) and len(shape) == 4 else ''}"
        )
    sizes = tuple(whole(size, f"a size of input shape {shown(tuple(shape))}") for size in shape)
    return Tensor(sizes, name=name)


@dataclass(eq=False)
class Kind:
    """The common part of nodes whose layers have the same class and arguments, and inputs of the same shapes.

    A large graph has few kinds, so that this is computed for each of them instead of for each node.
    """

    layer: Layer  # that of the first node
    input_shapes: tuple[Shape, ...]
    shape: Shape  # of the output

    @cached_property
    def geometry(self) -> Geometry:
        """The layer's geometry for these input shapes."""
        return self.layer.geometry(self.input_shapes)

    @cached_property
    def parameters(self) -> Mapping[str, ParameterSpec]:
        """The layer's parameters by its own names."""
        found = self.layer.parameters(self.input_shapes)
        return checked_specs(self.layer, "parameters", found, ParameterSpec) if is_custom(type(self.layer)) else found

    def scratch(self, sizes: Sizes, batch: int) -> Mapping[str, ScratchSpec]:
        """The buffers that the layer needs for ``batch`` images, by name."""
        found = self.layer.scratch(sizes, self.geometry, batch)
        return checked_specs(self.layer, "scratch", found, ScratchSpec) if is_custom(type(self.layer)) else found

    @cached_property
    def parameter_count(self) -> int:
        """Numbers in all parameters."""
        return sum(prod(parameter.shape) for parameter in self.parameters.values())

    @cached_property
    def flops(self) -> int:
        """Floating-point operations of a forward pass on one image."""
        return self.layer.flops(self.geometry, self.shape)

    @cached_property
    def input_halo(self) -> Halo:
        """The halo of zeros that the layer expects around its inputs."""
        return self.layer.input_halo(self.geometry)

    @cached_property
    def gradient_halo(self) -> Halo:
        """The halo of zeros that the layer's input gradient expects around that of its output."""
        return self.layer.gradient_halo(self.geometry)


@dataclass(eq=False)
class Node:
    """A layer in a graph. ``inputs`` are indices of values: first the graph's inputs, then its nodes."""

    name: str
    layer: Layer
    inputs: tuple[int, ...]
    kind: Kind

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        """Shapes of the inputs for one image."""
        return self.kind.input_shapes

    @property
    def shape(self) -> Shape:
        """Shape of the output for one image."""
        return self.kind.shape

    @property
    def geometry(self) -> Geometry:
        """The layer's geometry for these input shapes."""
        return self.kind.geometry

    @property
    def algorithm(self) -> str:
        """The convolution algorithm that the layer asks for, if any; it may be set after the layer was recorded."""
        algorithm: str = self.layer.__dict__.get("algorithm", "")
        return algorithm

    @cached_property
    def parameters(self) -> dict[str, str]:
        """Maps the parameters' names in the model, such as "stem.weight", to the layer's own names."""
        return {f"{self.name}.{name}": name for name in self.kind.parameters}


class Graph:
    """Nodes in the order of recording, in which they can run.

    Value i is input i for i < len(inputs), else the output of node i − len(inputs). ``auxiliary`` are outputs in
    training only.
    """

    def __init__(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], auxiliary: Sequence[Tensor] = ()) -> None:
        for kind, listed in (("inputs", inputs), ("outputs", [*outputs, *auxiliary])):
            if len(set(map(id, listed))) < len(listed):
                raise ArgumentError(f"a tensor is listed twice among the {kind}; list each once")
        if not outputs:
            raise ArgumentError("the model has no outputs")
        tensors = _reachable(inputs, [*outputs, *auxiliary])
        layers = [tensor.layer for tensor in tensors if tensor.layer is not None]
        if not layers:
            raise ArgumentError("the model has no layers between its inputs and its outputs")
        index = {id(tensor): i for i, tensor in enumerate([*inputs, *tensors])}
        names = _layer_names(layers)
        self.input_names = _checked_names([tensor.name or f"input_{i}" for i, tensor in enumerate(inputs, 1)])
        self.input_shapes = [tensor.shape for tensor in inputs]
        self.nodes = [
            Node(name, layer, tuple([index[id(x)] for x in tensor.inputs]), kind)
            for name, layer, tensor, kind in zip(names, layers, tensors, _kinds(tensors), strict=True)
        ]
        self.outputs = tuple(index[id(tensor)] for tensor in outputs)
        self.auxiliary = tuple(index[id(tensor)] for tensor in auxiliary)
        if shared := set(self.input_names) & set(names):
            raise ArgumentError(f'an input and a layer share the name "{min(shared)}"')

    # -- values -------------------------------------------------------------------------------------------------------

    @cached_property
    def names(self) -> list[str]:
        """Name of every value: that of its input or node."""
        return [*self.input_names, *(node.name for node in self.nodes)]

    @cached_property
    def shapes(self) -> list[Shape]:
        """Shape of every value."""
        return [*self.input_shapes, *(node.shape for node in self.nodes)]

    @cached_property
    def by_class(self) -> dict[type[Layer], list[int]]:
        """The numbers of the nodes by the class of their layer."""
        found: dict[type[Layer], list[int]] = {}
        for i, node in enumerate(self.nodes):
            found.setdefault(type(node.layer), []).append(i)
        return found

    @cached_property
    def known_ops(self) -> list[str | None]:
        """``Layer.known_op`` of every node."""
        return [node.kind.layer.known_op for node in self.nodes]

    def nodes_of(self, condition: Callable[[type[Layer]], bool]) -> list[int]:
        """Return the numbers of the nodes whose layer's class meets a condition, in order."""
        return sorted(itertools.chain(*(nodes for layer, nodes in self.by_class.items() if condition(layer))))

    @cached_property
    def consumers(self) -> list[list[int]]:
        """The nodes that read each value, in order."""
        consumers: list[list[int]] = [[] for _ in self.shapes]
        for i, node in enumerate(self.nodes):
            for value in node.inputs:
                consumers[value].append(i)
        return consumers

    def value(self, node: int) -> int:
        """Return the value that node number ``node`` computes."""
        return len(self.input_shapes) + node

    def producer(self, value: int) -> int:
        """Return the number of the node that computes a value; negative for an input."""
        return value - len(self.input_shapes)

    # -- parts --------------------------------------------------------------------------------------------------------

    @property
    def training_outputs(self) -> tuple[int, ...]:
        """The outputs, followed by the auxiliary ones."""
        return self.outputs + self.auxiliary

    def layer_of(self, value: int) -> Layer | None:
        """Return the layer that computes a value; None for an input."""
        node = self.producer(value)
        return None if node < 0 else self.nodes[node].layer

    @cached_property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs, auxiliary ones last."""
        return tuple(self.names[value] for value in self.training_outputs)

    @cached_property
    def inference(self) -> "Graph":
        """The graph without the auxiliary outputs and the nodes that only they need."""
        return self.between(range(len(self.input_shapes)), self.outputs) if self.auxiliary else self

    def between(self, inputs: Sequence[int], outputs: Sequence[int]) -> "Graph":
        """Return the part that computes the values ``outputs`` from the values ``inputs``, with the same names.

        Its inputs are ``inputs``, followed by those of the graph's own inputs that it also needs.
        """
        needed, given, kept = set(outputs), set(inputs), list[int]()
        for i in reversed(range(len(self.nodes))):
            if self.value(i) in needed and self.value(i) not in given:
                needed.update(self.nodes[i].inputs)
                kept.append(i)
        kept.reverse()
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

    def head(self, value: int) -> str:
        """Return the name of the last node with parameters before an output, on the path through first inputs."""
        i = self.producer(value)
        while i >= 0 and not self.nodes[i].parameters:
            i = self.producer(self.nodes[i].inputs[0])
        if i < 0:
            raise ArgumentError("an output of the model depends on no weights: it has no head to replace")
        return self.nodes[i].name

    def with_heads(self, outputs: int) -> "Graph":
        """Return this graph with another number of channels in the ``head`` of each output.

        Raises ArgumentError unless that is a dense layer or a convolution.
        """
        heads = {self.head(value) for value in self.training_outputs}
        tensors = [Input(shape, name) for name, shape in zip(self.input_names, self.input_shapes, strict=True)]
        inputs = list(tensors)
        for node in self.nodes:
            attributes = node.layer.attributes()
            if node.name in heads:
                size = next((name for name in ("units", "filters") if name in attributes), None)
                if size is None:
                    raise ArgumentError(f'the last layer with weights, "{node.name}", is not a Dense or Conv2D')
                attributes[size] = whole(outputs, "classes")
            tensors.append(type(node.layer)(**attributes, name=node.name)([tensors[value] for value in node.inputs]))
        return Graph(inputs, [tensors[i] for i in self.outputs], [tensors[i] for i in self.auxiliary])

    # -- arrays -------------------------------------------------------------------------------------------------------

    @property
    def freezable(self) -> list[str]:
        """Names that can be frozen: parameters, and layers without any, such as dropout."""
        return [name for node in self.nodes for name in node.parameters or [node.name]]

    def parameters(self) -> dict[str, tuple[Shape, str]]:
        """Return shape and initializer of every parameter by its name, "node.parameter"."""
        specifications = {}
        for i, node in enumerate(self.nodes):
            for name, parameter in node.kind.parameters.items():
                initializer = parameter.initializer
                if initializer == AUTO:
                    initializer = "he_normal" if self._is_rectified[i] else "glorot_uniform"
                specifications[f"{node.name}.{name}"] = (parameter.shape, initializer)
        return specifications

    def state(self) -> dict[str, tuple[Shape, str]]:
        """Return shape and initializer of every array that is kept but not trained by its name, "node.array"."""
        return {
            f"{node.name}.{name}": (array.shape, array.initializer)
            for node in self.nodes
            for name, array in node.layer.state(node.input_shapes).items()
        }

    def penalties(self) -> dict[str, tuple[float, float]]:
        """Return (l1, l2) of every penalized parameter by its name."""
        return {
            f"{node.name}.{name}": (parameter.l1, parameter.l2)
            for node in self.nodes
            for name, parameter in node.kind.parameters.items()
            if parameter.l1 or parameter.l2
        }

    @cached_property
    def _is_rectified(self) -> list[bool]:
        """For every node, whether a ReLU-like activation follows, with at most a normalization's weights in between."""
        found = [False] * len(self.nodes)
        for i in reversed(range(len(self.nodes))):
            readers = self.consumers[self.value(i)]
            found[i] = any(self.nodes[j].layer.rectifies or (found[j] and self._is_transparent(j)) for j in readers)
        return found

    def _is_transparent(self, node: int) -> bool:
        """Return whether a node is neither an activation nor has weights, except those of a normalization."""
        layer = self.nodes[node].layer
        return not layer.monotone and (layer.normalizes or not self.nodes[node].parameters)


def _reachable(inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> list[Tensor]:
    """Return the recorded tensors that ``outputs`` depend on, in order; every path must start at ``inputs``."""
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


def _kinds(tensors: Sequence[Tensor]) -> list[Kind]:
    """Return the kind of each tensor's layer. A custom layer has its own: its methods may depend on more."""
    kinds: dict[Hashable, Kind] = {}
    found = []
    for tensor in tensors:
        layer, shapes = tensor.layer, tuple([x.shape for x in tensor.inputs])
        assert layer is not None
        key = id(layer) if is_custom(type(layer)) else (type(layer), shapes, *{**vars(layer), "name": None}.values())
        kind = kinds.get(key)
        if kind is None:
            kind = kinds[key] = Kind(layer, shapes, tensor.shape)
        found.append(kind)
    return found


def _layer_names(layers: Sequence[Layer]) -> list[str]:
    """Return the given names; unnamed layers are numbered by kind, from 1, in the order of recording."""
    numbers: Counter[str] = Counter()
    used: Counter[int] = Counter(map(id, layers))
    names = []
    for layer in layers:
        if used[id(layer)] > 1:
            raise ArgumentError(f"{layer} is used {used[id(layer)]} times in one model; make a layer for each use")
        numbers[layer.op] += 1
        names.append(layer.name or f"{layer.op}_{numbers[layer.op]}")
    return _checked_names(names)


def _checked_names(names: list[str]) -> list[str]:
    for name, count in Counter(names).items():
        if count > 1:
            raise ArgumentError(f'{count} layers are called "{name}"; names must be unique')
        if not isinstance(name, str) or not re.fullmatch(r"[\w.\-/]+", name):
            raise ArgumentError(f"{shown(name)} cannot be a name; use letters, digits, and . _ - /")
    return names
