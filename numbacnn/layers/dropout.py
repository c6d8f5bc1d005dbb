"""Dropout of elements and of channels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from numbacnn._checks import number
from numbacnn.geometry import Shape, image_shape
from numbacnn.layers.base import Geometry, Layer, ScratchSpec
from numbacnn.layers.bindings import Bindings, Kernels, Sizes


@dataclass(eq=False)
class _Dropout(Layer):
    """In training, zero values at random and divide the others by the probability of keeping them.

    The random numbers depend only on the seed, the step, the layer's name, and the position in batch and image, so that
    backward draws the same mask again.
    """

    in_place_gradient: ClassVar[bool] = True
    depends_on_mode: ClassVar[bool] = True
    idle_in_inference: ClassVar[bool] = True

    rate: float = 0.5

    def __post_init__(self) -> None:
        self.rate = number(self.rate, "rate", 0, 1, below=True)

    def _drops(self, t: Bindings) -> bool:
        return t.training and self.rate > 0


@dataclass(eq=False)
class Dropout(_Dropout):
    """In training, zero each element with probability ``rate`` and divide the others by 1 − rate.

    Any shape (Srivastava et al. 2014). Every step draws a new mask from the seed, the step and the layer's name.
    Inference returns its input. Raises ArgumentError unless 0 ≤ rate < 1.
    """

    op: ClassVar[str] = "dropout"

    def forward(self, kernels: Kernels, t: Bindings, g: Geometry) -> None:
        """Compute y = x · mask / (1 − rate)."""
        if self._drops(t):
            kernels.dropout_forward(t.y, t.x, self.rate, t.random, t.stream)
        else:
            kernels.copy(t.y, t.x)

    def backward(self, kernels: Kernels, t: Bindings, g: Geometry) -> None:
        """Compute dx = dy · mask / (1 − rate) in dy's memory."""
        if self._drops(t):
            kernels.dropout_gradient_in_place(t.dy, self.rate, t.random, t.stream)


@dataclass(eq=False)
class SpatialDropout(_Dropout):
    """In training, zero each channel of each image with probability ``rate`` and divide the others by 1 − rate.

    Input and output (h, w, c) (Tompson et al. 2015, section 3.2). Otherwise like Dropout. Raises GeometryError if the
    input is not an image.
    """

    op: ClassVar[str] = "spatial_dropout"

    def geometry(self, shapes: Sequence[Shape]) -> tuple[int, int, int]:
        """Return (h, w, c)."""
        return image_shape(shapes[0])

    def output_shape(self, shapes: Sequence[Shape]) -> Shape:
        """Return the input's shape."""
        return self.geometry(shapes)

    def scratch(self, sizes: Sizes, geometry: tuple[int, int, int], batch: int) -> Mapping[str, ScratchSpec]:
        """Return the factor of each channel."""
        shape = (batch, 1, 1, geometry[2])
        return {"factors": ScratchSpec(shape, "forward"), "factors_gradient": ScratchSpec(shape, "backward")}

    def forward(self, kernels: Kernels, t: Bindings, g: tuple[int, int, int]) -> None:
        """Compute y = x · mask / (1 − rate)."""
        if self._drops(t):
            kernels.spatial_dropout_forward(t.y, t.x, t.factors, self.rate, t.random, t.stream)
        else:
            kernels.copy(t.y, t.x)

    def backward(self, kernels: Kernels, t: Bindings, g: tuple[int, int, int]) -> None:
        """Compute dx = dy · mask / (1 − rate) in dy's memory."""
        if self._drops(t):
            kernels.spatial_dropout_gradient_in_place(t.dy, t.factors_gradient, self.rate, t.random, t.stream)
