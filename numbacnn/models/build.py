"""What the architectures share: names in the manner of modules, and from a recorded network to a model."""

import inspect
from collections.abc import Callable, Sequence
from os import PathLike
from typing import Concatenate, ParamSpec, TypeVar

from numbacnn.engine.graph import Input, Tensor
from numbacnn.errors import GeometryError
from numbacnn.geometry import image_shape
from numbacnn.layers import BatchNorm, Conv2D, Layer, ReLU
from numbacnn.model import Model

L = TypeVar("L", bound=Layer)
S = TypeVar("S")
P = ParamSpec("P")
Weights = str | PathLike[str] | None
Size = Sequence[int]
Record = Callable[[Tensor], Tensor]


def build(
    record: Record,
    input_shape: Size,
    weights: Weights,
    seed: int,
    device: str,
    precision: str,
    auxiliary: Sequence[Tensor] = (),
    ignore: Sequence[str] = (),
    task: str | None = None,
) -> Model:
    """The model of what ``record`` makes of an image of ``input_shape``.

    ``record`` may fill the list ``auxiliary`` with outputs for training alone. ``weights``: a file for
    ``Model.load_weights``, which passes over its tensors called like one of the patterns ``ignore``. ``task``: what the
    output is for, where it can be for one alone.
    Raises GeometryError where the image is too small.
    """
    x = Input(input_shape)
    h, w, _ = image_shape(x.shape)
    try:
        y = record(x)
    except GeometryError as error:
        raise GeometryError(f"images of {h}×{w} do not fit this network: {error}") from None
    model = Model(x, y, auxiliary=auxiliary, seed=seed, device=device, precision=precision)
    model.task = task
    if weights is not None:
        model.load_weights(weights, ignore=ignore)
    return model


def variant(name: str, make: Callable[Concatenate[S, P], Model], form: S, about: str) -> Callable[P, Model]:
    """The function called ``name`` that makes networks of one ``form``: ``make`` behind its first argument.

    Its signature and, in ``about``, its documentation are those of a function written out.
    """

    def function(*args: P.args, **options: P.kwargs) -> Model:
        return make(form, *args, **options)

    signature = inspect.signature(make)
    function.__signature__ = signature.replace(  # type: ignore[attr-defined]  # what help() shows
        parameters=list(signature.parameters.values())[1:]
    )
    function.__name__ = function.__qualname__ = name
    function.__module__, function.__doc__ = make.__module__, about
    return function


def numbered(scope: str, layers: Sequence[Layer]) -> list[Layer]:
    """The layers, called "scope.0", "scope.1" … by their places."""
    return [named(f"{scope}.{i}", layer) for i, layer in enumerate(layers)]


def named(name: str, layer: L) -> L:
    """The layer, called ``name``."""
    layer.name = name
    return layer


def chain(x: Tensor, layers: Sequence[Layer]) -> Tensor:
    """The layers one after the other."""
    for layer in layers:
        x = layer(x)
    return x


def convolution(x: Tensor, conv: Layer, norm: str, activation: Layer | None = None, eps: float = 1e-5) -> Tensor:
    """A convolution, batch normalisation called ``norm``, and the activation where there is one."""
    y: Tensor = BatchNorm(eps=eps, name=norm)(conv(x))
    return y if activation is None else activation(y)


def relu(name: str) -> ReLU:
    """A ReLU called ``name``."""
    return ReLU(name=name)


def pair_of_convolutions(x: Tensor, name: str, filters: int) -> Tensor:
    """Two 3×3 convolutions that keep the size, each with batch normalisation and ReLU."""
    for i in (1, 2):
        conv = Conv2D(filters, 3, padding=1, bias=False, name=f"{name}.conv{i}")
        x = convolution(x, conv, f"{name}.bn{i}", relu(f"{name}.relu{i}"))
    return x
