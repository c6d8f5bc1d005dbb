"""Converts an ONNX graph to ours: every operator becomes the layers of its row in ``imports``, with their arrays."""

import re
from collections import Counter, defaultdict
from math import prod
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from numbacnn import layers as nl
from numbacnn._checks import brief, format_shape
from numbacnn.engine.graph import Graph, Input, Tensor
from numbacnn.errors import ArgumentError, ModelFileError
from numbacnn.onnx.axes import channels_last
from numbacnn.onnx.folding import FOLDED, fold
from numbacnn.onnx.imports import ROWS
from numbacnn.onnx.layout import Layout, Shape
from numbacnn.onnx.values import Constant, Float32, Item, UnsupportedError, Value

BATCH = 982_451_653  # stands for a batch of any size in shapes; a prime, so that no product hides it
MAX_NODES = 10_000
MAX_ELEMENTS = 1 << 27  # of a value for one image
MAX_MADE = 1 << 21  # floats of weights that the file does not have, such as a number for every channel
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)


class Op(NamedTuple):
    """An operator of the graph: its kind, its name, its attributes, and the names of its inputs and outputs."""

    kind: str
    name: str
    attributes: dict[str, Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Reader:
    """Builds our graph from one of ONNX. ``arrays`` are the weights by layer, ``constants`` the layers not to train.

    ``leading`` is 1 if the first axis of every value is the batch, else 0.
    """

    def __init__(
        self, proto: onnx.ModelProto, initializers: dict[str, Constant], max_computed: int, batched: bool = True
    ) -> None:
        self.leading = int(batched)
        self.opset = next(item.version for item in proto.opset_import if item.domain in ("", "ai.onnx"))
        self.uses: Counter[str] = Counter(name for node in proto.graph.node for name in node.input)
        self.uses.update(output.name for output in proto.graph.output)
        self.readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in proto.graph.node:
            for name in dict.fromkeys(node.input):
                self.readers[name].append(node)
        self.arrays: dict[int, dict[str, Float32]] = {}
        self.constants: set[int] = set()  # ids of layers
        self._affine: dict[int, tuple[nl.Layer, Op]] = {}  # by id of the tensor: ``takes_affine``
        self._last = channels_last(proto.graph)
        self.raw = False  # whether the input is 8-bit images
        self._max_computed = max_computed
        self._proto, self._made, self._names = proto, 0, Counter[str]()
        self._batch: int = BATCH
        self._moved: dict[tuple[int, Layout, Shape], Tensor] = {}  # copies in another order
        self._named: dict[int, list[str]] = defaultdict(list)  # the values of a tensor, by its id
        self._outputs: set[int] = set()  # ids of tensors
        self._tensors: list[Tensor] = []  # all, so that none has the id of another
        self.values: dict[str, Item] = {**initializers}
        self.op = Op("", "", {}, (), ())

    # -- the graph ----------------------------------------------------------------------------------------------------

    def read(self) -> Graph:
        """Return our graph. Raises ModelFileError, with the operator, if there is no counterpart."""
        inputs = self.compute()
        outputs = [self._output(item.name) for item in self._proto.graph.output]
        try:
            return Graph(inputs, outputs)
        except ArgumentError as error:
            raise ModelFileError(brief(error)) from None

    def compute(self) -> list[Tensor]:
        """Fill ``values`` with the results of all operators, and return the inputs."""
        inputs = [self._input(item) for item in self._proto.graph.input if item.name not in self.values]
        for node in self._proto.graph.node:
            self.op = op = _op_of(node)
            xs = [self._known(name) for name in op.inputs]
            try:
                constants = [x for x in xs if not isinstance(x, Value)]
                if op.kind in FOLDED and len(constants) == len(xs):
                    made: list[Item] = [*fold(node, constants, self.opset, self._max_computed)]
                else:
                    with np.errstate(all="raise", under="ignore"):  # such as weights that exceed float32
                        made = self._row(xs, next((x.problem for x in xs if isinstance(x, Value) and x.problem), ""))
            except UnsupportedError as error:
                raise ModelFileError(f'{op.kind} "{op.name}": {error}') from None
            except ArgumentError as error:
                raise ModelFileError(f'{op.kind} "{op.name}": {brief(error)}') from None
            except (ArithmeticError, ValueError) as error:
                raise ModelFileError(f'{op.kind} "{op.name}": its numbers are out of range: {brief(error)}') from None
            for name, value in zip(op.outputs, made, strict=False):
                if name in self.values and name:
                    raise ModelFileError(f'"{name}" is computed twice')
                self.values[name] = value
                if isinstance(value, Value):
                    self._named[id(value.tensor)].append(name)
        return inputs

    def _row(self, xs: list[Item], problem: str) -> list[Item]:
        if self.op.kind not in ROWS:
            raise UnsupportedError("numbacnn has no layer for it")
        row = ROWS[self.op.kind]
        if problem and not row.elementwise:
            raise UnsupportedError(f"its input comes from {problem}, which has no counterpart")
        made = row.function(self, *xs)
        return list(made) if isinstance(made, list | tuple) else [made]

    def _known(self, name: str) -> Item:
        if not name:
            return None
        if name not in self.values:
            raise ModelFileError(
                f'{self.op.kind} "{self.op.name}" reads "{name}", which nothing before it computes; a cyclic graph?'
            )
        return self.values[name]

    def _input(self, item: onnx.ValueInfoProto) -> Tensor:
        kind = item.type.tensor_type
        sizes = [size.dim_value if size.HasField("dim_value") else 0 for size in kind.shape.dim]
        if kind.elem_type not in (*FLOATS, TensorProto.UINT8):
            name = TensorProto.DataType.Name(kind.elem_type) if kind.elem_type in range(1, 20) else "of unknown type"
            raise ModelFileError(f'input "{item.name}" is {name}; numbacnn reads networks of float32 or uint8')
        self.raw |= kind.elem_type == TensorProto.UINT8
        shape = tuple(sizes[self.leading :])
        if len(sizes) < self.leading or not all(size > 0 for size in shape):
            raise ModelFileError(
                f'input "{item.name}" has shape {[size or "?" for size in sizes]}; only the batch size may be unknown'
                ': nc.onnx.load(path, shapes={"' + item.name + '": (channels, height, width)})'
            )
        if prod(shape) > MAX_ELEMENTS:
            raise ModelFileError(
                f'input "{item.name}" of {format_shape(shape)} has more than {MAX_ELEMENTS:,} elements'
            )
        if self.leading and sizes[0] > 0:
            self._batch = sizes[0]
        image = len(shape) == 3
        last = image and item.name in self._last
        ours = shape if last else (*shape[1:], shape[0]) if image else (prod(shape),)
        tensor = Input(ours, _clean(item.name))
        self._names[tensor.name or ""] += 1
        layout = Layout.channels_first(ours) if image and not last else Layout.contiguous(shape)
        self.values[item.name] = Value(tensor, layout)
        return tensor

    def _output(self, name: str) -> Tensor:
        value = self.values.get(name)
        if not isinstance(value, Value):
            raise ModelFileError(f'output "{name}" does not depend on the inputs')
        if value.problem:
            raise ModelFileError(f"{value.problem} has no counterpart in numbacnn")
        self.op = Op("output", name, {}, (name,), (name,))
        if len(value.shape) != 3:
            tensor = self.features(self.in_order(value))
        elif name in self._last:
            tensor = self.shaped(self.tensor(self.in_order(value)), value.shape)
        else:
            tensor = self.image(value)
        if tensor.layer is None or id(tensor) in self._outputs:  # outputs are different tensors
            tensor = self.record(nl.Reshape(tensor.shape), tensor)
        self._outputs.add(id(tensor))
        return tensor

    # -- for the rows: attributes and constants -----------------------------------------------------------------------

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute of the operator, or the default."""
        return self.op.attributes.get(name, default)

    def number(self, name: str, default: float) -> float:
        """Return an attribute as the shortest number that is its float32, such as 1e-05."""
        return float(str(np.float32(self.attribute(name, default))))

    def integers(self, x: Item, name: str) -> list[int] | None:
        """Return an input that must be constant integers, or the attribute of old versions, ``name``."""
        if x is None:
            found = self.attribute(name)
            return None if found is None else [int(number) for number in np.atleast_1d(found)]
        return [int(number) for number in self.constant(x, name).reshape(-1)]

    def constant(self, x: Item, name: str) -> Constant:
        """Return an input that must be constant."""
        if x is None or isinstance(x, Value):
            raise UnsupportedError(f"its {name} must be constant")
        return x

    def weights(self, x: Item, name: str) -> Float32:
        """Return an input that must be constant numbers, as float32."""
        return np.asarray(self.constant(x, name), np.float32)

    @property
    def batch(self) -> int:
        """The batch in shapes: the number that the inputs have, or ``BATCH``."""
        return self._batch

    def axis(self, axis: int, value: Value) -> int:
        """Return an axis of ONNX as one of ``value.layout``. Raises UnsupportedError for the batch's."""
        rank = self.rank(value)
        if not -rank <= axis < rank or axis % rank < self.leading:
            raise UnsupportedError(f"axis {axis} of {rank} is the batch, or does not exist")
        return axis % rank - self.leading

    def rank(self, value: Value) -> int:
        """Return the number of axes of a value in the file."""
        return len(value.shape) + self.leading

    def shown(self, value: Value) -> str:
        """Return the shape of a value in the file, for errors."""
        return f"({', '.join(['N'] * self.leading + [str(size) for size in value.shape])})"

    # -- for the rows: layers -----------------------------------------------------------------------------------------

    def record(
        self, layer: nl.Layer, *xs: Tensor, constant: bool = False, suffix: str = "", **arrays: NDArray[Any]
    ) -> Tensor:
        """Record a layer with its arrays; if ``constant``, they are not to be trained."""
        weights = [name for name in self.op.inputs if name.endswith(".weight")]  # PyTorch's names of modules
        layer.name = self._unique((weights[0].removesuffix(".weight") if weights else self.op.name) + suffix)
        tensor = xs[0].record(layer, xs)
        self._tensors.append(tensor)
        if prod(tensor.shape) > MAX_ELEMENTS:
            raise UnsupportedError(f"its output {format_shape(tensor.shape)} has more than {MAX_ELEMENTS:,} elements")
        expected = {**layer.parameters([x.shape for x in xs]), **layer.state([x.shape for x in xs])}
        for name, array in arrays.items():
            if name not in expected or array.shape != expected[name].shape:
                raise UnsupportedError(f"its {name} has shape {array.shape}, which does not fit")
        self.arrays[id(layer)] = {name: np.asarray(array, np.float32) for name, array in arrays.items()}
        if constant:
            self.constants.add(id(layer))
        return tensor

    def takes_affine(self, tensor: Tensor, layer: nl.Layer) -> None:
        """Note that a factor and an addend for each channel of ``tensor`` can become part of its layer's weights."""
        self._affine[id(tensor)] = layer, self.op

    def foldable(self, tensor: Tensor) -> nl.Layer | None:
        """Return that layer, unless something besides the operator reads the tensor, by any of its names."""
        layer, maker = self._affine.get(id(tensor), (None, self.op))
        only = all(self.uses[name] <= 1 for name in self._named[id(tensor)])
        return layer if maker is self.op or only else None

    def made(self, count: int) -> int:
        """Count numbers of weights that the file does not have. Raises UnsupportedError if there are too many."""
        self._made += count
        if self._made > max(MAX_MADE, self._max_computed):
            raise UnsupportedError(
                f"it needs {self._made:,} weights that the file does not have, more than {MAX_MADE:,}"
            )
        return count

    def shaped(self, tensor: Tensor, shape: Shape) -> Tensor:
        """Return the same memory in another of our shapes."""
        if tensor.shape == shape:
            return tensor
        layer = nl.Flatten() if len(shape) == 1 else nl.Reshape(shape)
        return self.record(layer, tensor, suffix="/shape")

    def tensor(self, value: Item) -> Tensor:
        """Return the tensor of an input that must not be constant."""
        if not isinstance(value, Value):
            raise UnsupportedError("a constant input is not supported here")
        if value.tensor is None:
            raise UnsupportedError(f"its input comes from {value.problem}, which has no counterpart")
        return value.tensor

    def value(self, x: Item) -> Value:
        """Return an input that must not be constant."""
        self.tensor(x)
        assert isinstance(x, Value)
        return x

    def image(self, x: Item) -> Tensor:
        """Return an input (c, h, w), or (c, w), as an image (h, w, c)."""
        value = self.value(x)
        if len(value.shape) == 2:
            value = Value(value.tensor, _reshaped(value.layout, (value.shape[0], 1, value.shape[1])))
        if len(value.shape) != 3:
            raise UnsupportedError(f"its input must be images, not of shape {self.shown(value)}")
        c, h, w = value.shape
        tensor, layout = self.tensor(value), value.layout.transposed((1, 2, 0))
        if layout.moved:
            tensor = self._permuted(tensor, layout, (h, w, c))
        return self.shaped(tensor, (h, w, c))

    def in_order(self, x: Item) -> Value:
        """Return a value whose elements are in our memory in the order of ONNX."""
        value = self.value(x)
        if not value.layout.moved:
            return value
        tensor = self._permuted(self.tensor(value), value.layout, (prod(value.shape),))
        return Value(tensor, Layout.contiguous(value.shape))

    def _permuted(self, tensor: Tensor, layout: Layout, shape: Shape) -> Tensor:
        """Return a copy in the order of ``layout``: a convolution or a dense layer whose weights are zeros and ones."""
        key = id(tensor), layout, shape
        if key in self._moved:
            return self._moved[key]
        flat, last = layout.flat, len(layout.factors)
        kept = next(i for i in range(last) if flat[i] != i)  # slowest factors that keep their positions are pixels
        pixels, c = prod(layout.factors[:kept]), prod(layout.factors[kept:])
        self.made(c * c)
        order = np.arange(c).reshape(layout.factors[kept:]).transpose([i - kept for i in flat[kept:]]).reshape(-1)
        weight = np.zeros((c, c), np.float32)
        weight[order, np.arange(c)] = 1
        image = self.shaped(tensor, shape if len(shape) == 3 and shape[2] == c else (1, pixels, c))
        layer = nl.Conv2D(c, 1, bias=False)
        moved = self.record(layer, image, constant=True, suffix="/order", weight=weight.reshape(1, 1, c, c))
        self._moved[key] = result = self.shaped(moved, shape)
        return result

    def features(self, x: Item) -> Tensor:
        """Return the memory of a value as features (n,)."""
        tensor = self.tensor(x)
        return self.shaped(tensor, (prod(tensor.shape),))

    def nchw(self, tensor: Tensor, rank: int = 3) -> Value:
        """Return the value of an image; of rank 2, (c, w)."""
        layout = Layout.channels_first(tensor.shape)
        if rank == 2:
            layout = _reshaped(layout, (tensor.shape[2], tensor.shape[1]))
        return Value(tensor, layout)

    def along(self, value: Value, array: Constant) -> tuple[Tensor, Float32]:
        """Return the tensor as an image, and the constants that ``array``, broadcast to it, has for each channel.

        The channels are the fastest factors of the memory, as many as the constants differ along.
        """
        array = np.asarray(array, np.float32)
        rank = self.rank(value)
        if array.ndim > rank or (self.leading and array.ndim == rank and array.shape[0] != 1):
            raise UnsupportedError(f"a constant of shape {array.shape} does not fit {self.shown(value)}")
        array = array.reshape(array.shape[1:]) if self.leading and array.ndim == rank else array
        tensor, shape, factors = self.tensor(value), value.shape, value.layout.factors
        try:
            whole = np.broadcast_to(array, shape)
        except ValueError:
            raise UnsupportedError(f"a constant of shape {array.shape} does not fit {self.shown(value)}") from None
        flat = value.layout.flat
        ordered = whole.reshape([factors[i] for i in flat]).transpose(np.argsort(flat))
        first = next((i for i in range(len(factors)) if ordered.strides[i]), len(factors))
        channels = prod(factors[first:])
        values = ordered[(0,) * first].reshape(-1)
        if tensor.shape[-1] % channels == 0:
            repeats = tensor.shape[-1] // channels
            self.made(repeats * channels)
            return self.shaped(tensor, _image(tensor.shape)), np.tile(values, repeats)
        self.made(channels)
        return self.shaped(tensor, (1, prod(tensor.shape) // channels, channels)), values.copy()

    def _unique(self, name: str) -> str:
        name = _clean(name)
        self._names[name] += 1
        while (count := self._names[name]) > 1:
            name = f"{name}_{count}"
            self._names[name] += 1
        return name


def _image(shape: Shape) -> Shape:
    return shape if len(shape) == 3 else (1, 1, *shape)


def _reshaped(layout: Layout, shape: Shape) -> Layout:
    found = layout.reshaped(shape)
    if found is None:
        raise UnsupportedError(f"its elements would have to be copied to become {shape}")
    return found


def _clean(name: str) -> str:
    return re.sub(r"[^\w.\-/]", "_", name).strip("/")[:200] or "value"


def _op_of(node: onnx.NodeProto) -> Op:
    if node.domain not in ("", "ai.onnx"):
        raise ModelFileError(
            f'{brief(node.op_type)} "{brief(node.name)}" is of the domain {brief(node.domain)}, unknown here'
        )
    attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    text = {name: value.decode("utf-8", "replace") for name, value in attributes.items() if isinstance(value, bytes)}
    output = next(iter(node.output), "")
    return Op(node.op_type, node.name or output, {**attributes, **text}, tuple(node.input), tuple(node.output))
