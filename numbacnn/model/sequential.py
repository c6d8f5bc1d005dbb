"""A network whose layers follow each other."""

from collections.abc import Sequence

from numbacnn._checks import shown
from numbacnn.data.transforms import Transform
from numbacnn.engine.graph import Input, Tensor
from numbacnn.engine.network import Network
from numbacnn.errors import ArgumentError
from numbacnn.layers import Layer
from numbacnn.model.model import Model


class Sequential(Model):
    """A model whose layers follow each other, on images of ``input_shape`` (height, width, channels) or (features,).

    Without ``input_shape`` the list begins with an ``Input``.
    """

    def __init__(
        self,
        layers: Sequence[Layer | Tensor] = (),
        input_shape: Sequence[int] | None = None,
        *,
        seed: int = 0,
        device: str = "cpu",
        precision: str = "fp32",
    ) -> None:
        start, rest = _start(layers, input_shape)
        x = start
        for layer in rest:
            x = layer(x)
        super().__init__(start, x, seed=seed, device=device, precision=precision)


def _start(layers: Sequence[Layer | Tensor], input_shape: Sequence[int] | None) -> tuple[Tensor, list[Layer]]:
    """Return the input of a chain of layers, and the layers after it."""
    if not isinstance(layers, Sequence) or not layers:
        given = f"layers={shown(layers)}"
        raise ArgumentError(f"{given}: pass a list, such as nc.Sequential([nc.Flatten(), nc.Dense(10)], (28, 28, 1))")
    first = layers[0]
    if isinstance(first, Tensor) and input_shape is not None:
        raise ArgumentError("the layers begin with an Input, which has the shape: leave input_shape out")
    if any(isinstance(layer, Network) for layer in layers):
        raise ArgumentError("layers: a model is not a layer; list its layers, nc.Sequential([*model.layers, …], shape)")
    if not isinstance(first, Tensor) and input_shape is None:
        raise ArgumentError("input_shape is missing: pass (height, width, channels), or an Input before the layers")
    start = first if isinstance(first, Tensor) else Input(input_shape or ())
    rest = [layer for layer in layers if layer is not start]
    for layer in rest:
        if not isinstance(layer, Layer):
            hint = "; fit(augment=…) changes the training images" if isinstance(layer, Transform) else ""
            raise ArgumentError(f"layers: {shown(layer)} is not a layer such as nc.Dense(10){hint}")
    return start, [layer for layer in rest if isinstance(layer, Layer)]
