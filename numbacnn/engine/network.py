"""A graph with its parameters on a device: forward and backward on arrays."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numbacnn._checks import flag, matching
from numbacnn._checks.names import AnswersAttributes, ChecksArguments, checks_call
from numbacnn.engine.device import Device
from numbacnn.engine.executor import Executor, check_training
from numbacnn.engine.graph import Graph
from numbacnn.engine.locks import engine_lock
from numbacnn.engine.parameters import Parameters
from numbacnn.engine.plan import Plan, make_plan
from numbacnn.errors import ArgumentError, NumbacnnError
from numbacnn.geometry import Shape

Float32 = NDArray[np.float32]
FLOAT32 = np.dtype(np.float32)


class Network(ChecksArguments, AnswersAttributes):
    """The part of a model that knows neither data sets nor losses.

    ``several_inputs`` and ``several_outputs`` say whether forward takes and returns lists of arrays.
    """

    def __init__(self, graph: Graph, device: Device, several_inputs: bool, several_outputs: bool) -> None:
        self.graph, self.device = graph, device
        self.several_inputs, self.several_outputs = several_inputs, several_outputs
        self.store = Parameters(graph.parameters(), graph.state(), device)
        self._executors: dict[tuple[bool, bool, tuple[int, ...] | None], Executor] = {}  # by arguments of ``executor``
        self._pending: tuple[Executor, int] | None = None  # the training forward that backward may follow

    @property
    def input_shape(self) -> Shape:
        """Shape of one image, of a model with one input."""
        return self.graph.input_shapes[0]

    @property
    def output_shape(self) -> Shape:
        """Shape of the output for one image, of a model with one output."""
        return self.graph.shapes[self.graph.outputs[0]]

    # -- parameters ---------------------------------------------------------------------------------------------------

    @property
    def parameters(self) -> Mapping[str, Float32]:
        """Every trained array by name, such as "conv2d_1.weight", read-only; ``set_parameters`` writes them."""
        return self.store.view(self.store.values)

    @property
    def gradients(self) -> Mapping[str, Float32]:
        """The gradient of every parameter by the last ``backward``, read-only."""
        return self.store.view(self.store.gradients)

    @property
    def state(self) -> Mapping[str, Float32]:
        """Arrays that are kept but not trained, such as running statistics, read-only; written as parameters are."""
        return self.store.state_view()

    @checks_call
    def set_parameters(self, arrays: Mapping[str, ArrayLike]) -> None:
        """Write parameters and state by name. Raises ArgumentError, and writes none, if a name or shape is wrong."""
        with engine_lock:
            self.store.set(arrays)

    @property
    def frozen(self) -> tuple[str, ...]:
        """The frozen parameters, in the model's order."""
        return tuple(name for name in self.store.slots if name in self.store.frozen)

    @checks_call
    def freeze(self, pattern: str) -> None:
        """Freeze the parameters whose names match a pattern such as "features.*" (fnmatch).

        Their gradients are zeros and are not computed, and optimizers leave them unchanged. A layer whose parameters
        are all frozen runs in training as in inference; so does a layer without parameters whose own name matches.
        Copies of the model keep this, its file does not. Raises ArgumentError if nothing matches.
        """
        self.set_frozen(self.store.frozen | set(matching("freeze: the pattern", pattern, self.graph.freezable)))

    @checks_call
    def unfreeze(self, pattern: str = "*") -> None:
        """Train the matching parameters again, by default all. Raises ArgumentError if nothing matches."""
        self.set_frozen(self.store.frozen - set(matching("unfreeze: the pattern", pattern, self.graph.freezable)))

    def set_frozen(self, names: frozenset[str]) -> None:
        """Freeze these parameters and layers, and no others."""
        with engine_lock:
            self.store.freeze(names)
            self._executors = {key: executor for key, executor in self._executors.items() if not key[0]}
            self._pending = None

    # -- running ------------------------------------------------------------------------------------------------------

    @checks_call
    def forward(self, x: ArrayLike | Sequence[ArrayLike], training: bool = False) -> Any:
        """Return the output for normalized float32 input (N, …) as a new array; lists for several.

        With ``training``, what ``backward`` reads is kept, and the list of outputs ends in the auxiliary ones.
        """
        arrays, training = self.checked_inputs(x), flag(training, "training")
        n = len(arrays[0])
        with engine_lock:
            executor = self.executor(n, training, input_gradient=training)
            bound = executor.bind(n)
            self.upload(bound.inputs, arrays)
            executor.forward(n)
            self._pending = (executor, n) if training else self._pending
            outputs = [
                self.device.download(view, (n, *shape))
                for view, shape in zip(bound.outputs, self._output_shapes(training), strict=True)
            ]
        return outputs if self._returns_list(training) else outputs[0]

    @checks_call
    def __call__(self, x: ArrayLike | Sequence[ArrayLike], training: bool = False) -> Any:
        """Return ``forward(x, training)``."""
        return self.forward(x, training)

    @checks_call
    def backward(self, dy: ArrayLike | Sequence[ArrayLike]) -> Any:
        """After ``forward(training=True)``, fill ``gradients`` from dy and return the gradient of the input.

        dy is the gradient of the output, or a list of them, as is the result. The penalties of layers are not included:
        see ``add_penalties``. Raises NumbacnnError if there was no such forward.
        """
        if self._pending is None:
            raise NumbacnnError("backward needs a forward(x, training=True) before it")
        executor, n = self._pending
        arrays = _checked(dy, self._returns_list(True), self._output_shapes(True), "gradient", n)
        with engine_lock:
            bound = executor.bind(n)
            self.upload(bound.output_gradients, arrays)
            executor.backward(n)
            self._pending = None
            gradients = [
                np.zeros((n, *shape), np.float32) if view is None else self.device.download(view, (n, *shape))
                for view, shape in zip(bound.input_gradients, self.graph.input_shapes, strict=True)
            ]
        return gradients if self.several_inputs else gradients[0]

    def executor(
        self, n: int, training: bool, input_gradient: bool = False, outputs: tuple[int, ...] | None = None
    ) -> Executor:
        """Return an executor for at least ``n`` images: the current one, or a new plan if that one is too small.

        ``outputs`` are the values that it computes, by default the graph's outputs.
        """
        if outputs in (self.graph.outputs, self.graph.training_outputs):
            outputs = None
        key = training, input_gradient, outputs
        executor = self._executors.get(key)
        if executor is None or executor.plan.batch < n:
            plan = self.plan(n, training, input_gradient, outputs)
            executor = self._executors[key] = Executor(plan, self.store, self.device)
        return executor

    def plan(
        self, n: int, training: bool, input_gradient: bool = False, outputs: tuple[int, ...] | None = None
    ) -> Plan:
        """Return a plan for ``n`` images, with the arguments of ``executor``."""
        given = outputs not in (None, self.graph.outputs, self.graph.training_outputs)
        graph = self.graph.between(range(len(self.graph.input_shapes)), outputs) if given and outputs else self.graph
        frozen = self.store.frozen if training else frozenset()
        return make_plan(graph, self.device.sizes, n, training=training, input_gradient=input_gradient, frozen=frozen)

    @property
    def executors(self) -> list[Executor]:
        """Those that have been made, for training and inference."""
        return list(self._executors.values())

    def check_training(self, n: int) -> None:
        """Raise ArgumentError, with its name, if a layer cannot be trained on ``n`` images."""
        for node in self.graph.nodes:
            if not self.store.frozen.issuperset(node.parameters or [node.name]):
                check_training(node, n)

    def training_executor(self, n: int, outputs: tuple[int, ...] | None = None) -> Executor:
        """Return an executor for training steps, after which ``backward`` needs another forward."""
        self._pending = None
        return self.executor(n, training=True, outputs=outputs)

    def checked_inputs(self, x: ArrayLike | Sequence[ArrayLike]) -> list[Float32]:
        """Return the inputs as float32 arrays. Raises ArgumentError, with the shapes, if they do not fit the model."""
        return _checked(x, self.several_inputs, self.graph.input_shapes, "input")

    def upload(self, views: Sequence[Float32], arrays: Sequence[Float32]) -> None:
        """Write arrays (n, …) to views N×H×W×C of the device; the caller holds ``engine_lock``."""
        for view, array in zip(views, arrays, strict=True):
            self.device.upload(view, array.reshape(view.shape))

    def _output_shapes(self, training: bool) -> list[Shape]:
        values = self.graph.training_outputs if training else self.graph.outputs
        return [self.graph.shapes[value] for value in values]

    def _returns_list(self, training: bool) -> bool:
        return self.several_outputs or (training and bool(self.graph.auxiliary))


def _checked(given: Any, several: bool, shapes: Sequence[Shape], kind: str, n: int | None = None) -> list[Float32]:
    arrays = [_real_numbers(array, kind) for array in (given if several else [given])]
    if len(arrays) != len(shapes):
        raise ArgumentError(f"{len(arrays)} {kind}s for a model of {len(shapes)}")
    n = n if n is not None else (len(arrays[0]) if arrays[0].ndim else 0)
    for array, shape in zip(arrays, shapes, strict=True):
        if array.shape != (n, *shape) or n == 0:
            hint = "; pass a batch, x[np.newaxis]" if array.shape == shape else ""
            count = "N" if hint or not n else n
            raise ArgumentError(f"{kind} of shape {array.shape}; the model needs {(count, *shape)}{hint}")
    return [array if array.dtype == FLOAT32 else array.astype(np.float32) for array in arrays]


def _real_numbers(given: object, kind: str) -> NDArray[Any]:
    """Convert an array, a nested list or a PyTorch tensor to an array of floats; ``kind`` names it in errors."""
    if type(given) is np.ndarray and given.dtype == FLOAT32:
        return given
    if hasattr(given, "detach"):  # a PyTorch tensor, perhaps with requires_grad or on a GPU
        given = given.detach().cpu()
    try:
        array = np.asarray(given)
    except ValueError as error:
        raise ArgumentError(f"{kind}: {error}") from None
    except TypeError:  # a Dataset
        raise ArgumentError(f"{kind} is a {type(given).__name__}; pass an array, such as images from a batch") from None
    if array.dtype.kind in "biu":
        raise ArgumentError(
            f"{kind} is {array.dtype}; pass normalized floats, model.normalized(images). "
            "Only fit, evaluate and predict accept raw images"
        )
    if array.dtype.kind != "f":
        raise ArgumentError(f"{kind} is {array.dtype}; pass real numbers")
    return array
