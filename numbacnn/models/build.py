"""The decorator that turns a function which builds a network into a public architecture; common groups of layers."""

import inspect
from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any, NamedTuple, Protocol, TypeVar

from numbacnn._checks import whole
from numbacnn._checks.names import checks_arguments
from numbacnn.engine.graph import Input, Tensor
from numbacnn.errors import GeometryError
from numbacnn.geometry import image_shape
from numbacnn.layers import BatchNorm, Conv2D, Layer, ReLU
from numbacnn.model import Model

L = TypeVar("L", bound=Layer)
Weights = str | PathLike[str] | None
Size = Sequence[int]


class Network(NamedTuple):
    """A recorded network: its output, outputs that only training has, and patterns of weights that it does not need."""

    output: Tensor
    auxiliary: Sequence[Tensor] = ()
    ignore: Sequence[str] = ()


Record = Callable[..., Tensor | Network]
"""Records the layers of a network on a symbolic image: called with the image, the number of classes and options."""


class Architecture(Protocol):
    """A function of the zoo; ``options`` are those of the architecture.

    Raises:
        ArgumentError: an argument is not valid, or ``weights`` do not fit.
        GeometryError: the images are too small.
    """

    __name__: str

    def __call__(
        self,
        input_shape: Size = ...,
        classes: int = ...,
        weights: Weights = None,
        seed: int = 0,
        device: str = "cpu",
        precision: str = "fp32",
        **options: Any,
    ) -> Model:
        """Return a new model; ``weights`` is a file for ``Model.load_weights``."""


def architecture(
    input_shape: Size, classes: int, *, task: str | None = None, name: str = "", doc: str | None = None
) -> Callable[[Record], Architecture]:
    """Decorate a function that calls the layers of a network, to make a public function that returns a ``Model``.

    The keyword-only parameters of the decorated function become options of the public one.

    Args:
        input_shape: the default shape of one image.
        classes: the default number of classes.
        task: the task of the model, if the output is for one task only.
        name: the public name, by default that of the decorated function.
        doc: the docstring, by default that of the decorated function.
    """

    def decorate(record: Record) -> Architecture:
        def make(
            input_shape: Size = input_shape,
            classes: int = classes,
            weights: Weights = None,
            seed: int = 0,
            device: str = "cpu",
            precision: str = "fp32",
            **options: Any,
        ) -> Model:
            x, classes = Input(input_shape), whole(classes, "classes")
            h, w, _ = image_shape(x.shape)
            try:
                recorded = record(x, classes, **options)
            except GeometryError as error:
                raise GeometryError(f"images of {h}×{w} do not fit this network: {error}") from None
            network = Network(recorded) if isinstance(recorded, Tensor) else recorded
            model = Model(x, network.output, auxiliary=network.auxiliary, seed=seed, device=device, precision=precision)
            model.task = task
            if weights is not None:
                model.load_weights(weights, ignore=network.ignore)
            return model

        common = list(inspect.signature(make).parameters.values())[:-1]
        own = [p for p in inspect.signature(record).parameters.values() if p.kind is inspect.Parameter.KEYWORD_ONLY]
        make.__signature__ = inspect.Signature([*common, *own], return_annotation=Model)  # type: ignore[attr-defined]
        # A TypeError about an unknown option shows the __qualname__ of ``record``.
        make.__name__ = make.__qualname__ = record.__qualname__ = name or record.__name__
        make.__module__, make.__doc__ = record.__module__, doc or record.__doc__
        return checks_arguments(make)

    return decorate


def numbered(scope: str, layers: Sequence[Layer]) -> list[Layer]:
    """Name the layers "scope.0", "scope.1", …"""
    for i, layer in enumerate(layers):
        layer.name = f"{scope}.{i}"
    return list(layers)


def chain(x: Tensor, layers: Sequence[Layer]) -> Tensor:
    """Apply the layers in sequence."""
    for layer in layers:
        x = layer(x)
    return x


def convolution(x: Tensor, conv: Layer, norm: str, activation: Layer | None = None, eps: float = 1e-5) -> Tensor:
    """Apply a convolution, a batch normalization named ``norm``, and the activation if there is one."""
    y: Tensor = BatchNorm(eps=eps, name=norm)(conv(x))
    return y if activation is None else activation(y)


def relu(name: str) -> ReLU:
    """Return a named ReLU."""
    return ReLU(name=name)


def double_convolution(x: Tensor, name: str, filters: int) -> Tensor:
    """Apply two 3×3 convolutions that keep the size, each with batch normalization and ReLU."""
    for i in (1, 2):
        conv = Conv2D(filters, 3, padding=1, bias=False, name=f"{name}.conv{i}")
        x = convolution(x, conv, f"{name}.bn{i}", relu(f"{name}.relu{i}"))
    return x
