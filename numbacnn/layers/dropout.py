"""Dropout, by element and by channel."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from numbacnn._checks import number
from numbacnn.geometry import Shape, image_shape
from numbacnn.layers.base import Layer, ScratchSpec
from numbacnn.layers.bindings import Bindings, Kernels, Sizes


@dataclass(eq=False)
class _Dropout(Layer):
    """In training some numbers become 0, and the others are divided by their share; inference changes nothing.

    What is dropped depends on the seed, the step, the layer's name, and the place in batch and image alone.
    """

    in_place_gradient: ClassVar[bool] = True
    depends_on_mode: ClassVar[bool] = True
    idle_in_inference: ClassVar[bool] = True

    rate: float = 0.5

    def __post_init__(self) -> None:
        self.rate = number(self.rate, "rate", 0, 1, below=True)

    def _drops(self, t: Bindings) -> bool:
        return bool(t.training) and self.rate > 0


@dataclass(eq=False)
class Dropout(_Dropout):
    """Each element becomes 0 with probability ``rate``, the others are divided by 1 − rate (Srivastava et al. 2014).

    Any shape. In training alone; a mask is drawn anew at every step, from the seed, the step and the layer's name.
    Raises ArgumentError unless 0 ≤ rate < 1.
    """

    op: ClassVar[str] = "dropout"

    def forward(self, kernels: Kernels, t: Bindings, g: Any) -> None:
        """y = x · mask / (1 − rate)."""
        if self._drops(t):
            kernels.dropout_forward(t.y, t.x, self.rate, t.random, t.stream)
        else:
            kernels.copy(t.y, t.x)

    def backward(self, kernels: Kernels, t: Bindings, g: Any) -> None:
        """dx = dy · mask / (1 − rate), in dy's memory; the mask is drawn once more."""
        if self._drops(t):
            kernels.dropout_gradient_in_place(t.dy, self.rate, t.random, t.stream)


@dataclass(eq=False)
class SpatialDropout(_Dropout):
    """Whole channels of an image become 0 with probability ``rate``, the others are divided by 1 − rate (Tompson et
    al. 2015, section 3.2).

    Input (h, w, c), output alike. Otherwise as Dropout. Raises GeometryError where the input is no image.
    """

    op: ClassVar[str] = "spatial_dropout"

    def geometry(self, shapes: Sequence[Shape]) -> tuple[int, int, int]:
        """(h, w, c)."""
        return image_shape(shapes[0])

    def output_shape(self, shapes: Sequence[Shape]) -> Shape:
        """The input's own."""
        return self.geometry(shapes)

    def scratch(self, sizes: Sizes, geometry: tuple[int, int, int], batch: int) -> Mapping[str, ScratchSpec]:
        """What each channel is multiplied by."""
        shape = (batch, 1, 1, geometry[2])
        return {"factors": ScratchSpec(shape, "forward"), "factors_gradient": ScratchSpec(shape, "backward")}

    def forward(self, kernels: Kernels, t: Bindings, g: tuple[int, int, int]) -> None:
        """y = x · mask / (1 − rate)."""
        if self._drops(t):
            kernels.spatial_dropout_forward(t.y, t.x, t.factors, self.rate, t.random, t.stream)
        else:
            kernels.copy(t.y, t.x)

    def backward(self, kernels: Kernels, t: Bindings, g: tuple[int, int, int]) -> None:
        """dx = dy · mask / (1 − rate), in dy's memory; the mask is drawn once more."""
        if self._drops(t):
            kernels.spatial_dropout_gradient_in_place(t.dy, t.factors_gradient, self.rate, t.random, t.stream)
