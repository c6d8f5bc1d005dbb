"""Max and average pooling."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, TypeAlias

from numbacnn._checks import flag, pair
from numbacnn.geometry import (
    MAX_STRIDE,
    AdaptiveGeometry,
    Padding,
    PoolGeometry,
    Shape,
    freeze_padding,
    image_shape,
    pool_geometry,
)
from numbacnn.layers.base import Layer, ScratchSpec
from numbacnn.layers.bindings import Bindings, Kernels, Sizes

AnyPool: TypeAlias = PoolGeometry | AdaptiveGeometry
_geometry = lru_cache(1024)(pool_geometry)  # the many layers of a large graph have few different ones


class _Averages:
    """The bindings of average pooling, over windows or bins."""

    kernel: ClassVar[str] = "average_pool"

    def forward(self, kernels: Kernels, t: Bindings, g: AnyPool) -> None:
        """Compute y, the mean of each window of x."""
        getattr(kernels, f"{self.kernel}_forward")(t.y, t.x, g)

    def backward(self, kernels: Kernels, t: Bindings, g: AnyPool) -> None:
        """Distribute the gradient of each window over its pixels."""
        getattr(kernels, f"{self.kernel}_gradient")(t.dx, t.dy, g)


class _Maxima:
    """The bindings of max pooling, over windows or bins."""

    is_max_pool: ClassVar[bool] = True
    kernel: ClassVar[str] = "max_pool"

    def scratch(self, sizes: Sizes, geometry: AnyPool, batch: int) -> Mapping[str, ScratchSpec]:
        """Return the position of each maximum in its window, or for bins in the image."""
        return {"argmax": ScratchSpec((batch, geometry.p, geometry.q, geometry.c), "saved")}

    def forward(self, kernels: Kernels, t: Bindings, g: AnyPool) -> None:
        """Compute y, the maximum of each window of x."""
        getattr(kernels, f"{self.kernel}_forward")(t.y, t.argmax, t.x, g)

    def backward(self, kernels: Kernels, t: Bindings, g: AnyPool) -> None:
        """Add the gradient of each window to its first maximum."""
        getattr(kernels, f"{self.kernel}_gradient")(t.dx, t.dy, t.argmax, g)


@dataclass(eq=False)
class _Pool2D(Layer):
    """Windows of ``pool_size`` at steps of ``stride`` (by default the window's size) in each channel."""

    pool_size: int | tuple[int, int] = 2
    stride: int | tuple[int, int] | None = None
    padding: Padding = "valid"
    ceil_mode: bool = False

    def __post_init__(self) -> None:
        self.pool_size = pair(self.pool_size, "pool_size")
        self.stride = self.pool_size if self.stride is None else pair(self.stride, "stride", maximum=MAX_STRIDE)
        self.padding = freeze_padding(self.padding)
        self.ceil_mode = flag(self.ceil_mode, "ceil_mode")

    def geometry(self, shapes: Sequence[Shape]) -> PoolGeometry:
        """Return sizes, strides and padding of the windows over images of ``shapes[0]``."""
        assert self.stride is not None
        window, stride = pair(self.pool_size, "pool_size"), pair(self.stride, "stride", maximum=MAX_STRIDE)
        padding = freeze_padding(self.padding)
        return _geometry(tuple(shapes[0]), window, stride, padding, self.ceil_mode, self._counts_padding())

    def _counts_padding(self) -> bool:
        return False

    def output_shape(self, shapes: Sequence[Shape]) -> Shape:
        """Return (p, q, c)."""
        g = self.geometry(shapes)
        return g.p, g.q, g.c

    def flops(self, geometry: PoolGeometry, output_shape: Shape) -> int:
        """Count one operation for each pixel of each window."""
        g = geometry
        return g.p * g.q * g.c * g.r * g.s


@dataclass(eq=False)
class MaxPool2D(_Maxima, _Pool2D):
    """The largest value of each window; padding counts as −∞, and the first of equal maxima gets the gradient.

    Input (h, w, c), output (p, q, c). With ``ceil_mode`` the output size is rounded up instead of down.
    """

    op: ClassVar[str] = "max_pool2d"
    per_image: ClassVar[bool] = True


@dataclass(eq=False)
class AvgPool2D(_Averages, _Pool2D):
    """The mean of each window; padding counts as zeros, or with ``count_include_pad=False`` not at all.

    Input (h, w, c), output (p, q, c). With ``ceil_mode`` the output size is rounded up instead of down.
    """

    op: ClassVar[str] = "avg_pool2d"
    per_image: ClassVar[bool] = True

    count_include_pad: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.count_include_pad = flag(self.count_include_pad, "count_include_pad")

    def _counts_padding(self) -> bool:
        return self.count_include_pad


@dataclass(eq=False)
class _GlobalPool2D(Layer):
    """One window over the whole image; output (1, 1, c), or (c,) unless ``keepdims``."""

    keepdims: bool = False

    def __post_init__(self) -> None:
        self.keepdims = flag(self.keepdims, "keepdims")

    def geometry(self, shapes: Sequence[Shape]) -> PoolGeometry:
        """Return one window of the image's size."""
        h, w, _ = image_shape(shapes[0])
        return pool_geometry(shapes[0], (h, w), (h, w))

    def output_shape(self, shapes: Sequence[Shape]) -> Shape:
        """Return (1, 1, c) or (c,)."""
        c = image_shape(shapes[0])[2]
        return (1, 1, c) if self.keepdims else (c,)

    def flops(self, geometry: PoolGeometry, output_shape: Shape) -> int:
        """Count one operation per pixel."""
        return geometry.h * geometry.w * geometry.c


@dataclass(eq=False)
class GlobalMaxPool2D(_Maxima, _GlobalPool2D):
    """The largest value of each channel. Input (h, w, c), output (c,), or (1, 1, c) with ``keepdims``."""

    op: ClassVar[str] = "global_max_pool2d"
    per_image: ClassVar[bool] = True


@dataclass(eq=False)
class GlobalAvgPool2D(_Averages, _GlobalPool2D):
    """The mean of each channel. Input (h, w, c), output (c,), or (1, 1, c) with ``keepdims``."""

    op: ClassVar[str] = "global_avg_pool2d"
    per_image: ClassVar[bool] = True


@dataclass(eq=False)
class _AdaptivePool2D(Layer):
    """``output_size`` bins, one integer or (height, width), over each channel of the image.

    Bin p of P covers the rows from ⌊p·h/P⌋ to ⌈(p+1)·h/P⌉ − 1, and columns likewise: bins overlap if P does not divide
    h, and share rows if P > h.
    """

    output_size: int | tuple[int, int]

    def __post_init__(self) -> None:
        self.output_size = pair(self.output_size, "output_size")

    def geometry(self, shapes: Sequence[Shape]) -> AdaptiveGeometry:
        """Return the sizes of image and output."""
        return AdaptiveGeometry(*image_shape(shapes[0]), *pair(self.output_size, "output_size"))

    def output_shape(self, shapes: Sequence[Shape]) -> Shape:
        """Return (p, q, c)."""
        g = self.geometry(shapes)
        return g.p, g.q, g.c

    def flops(self, geometry: AdaptiveGeometry, output_shape: Shape) -> int:
        """Count one operation for each pixel of each bin, with the average bin rounded up."""
        g = geometry
        return -(-g.h // g.p) * -(-g.w // g.q) * g.p * g.q * g.c


@dataclass(eq=False)
class AdaptiveAvgPool2D(_Averages, _AdaptivePool2D):
    """The mean of each of ``output_size`` bins, which are PyTorch's. Input (h, w, c), output (p, q, c)."""

    op: ClassVar[str] = "adaptive_avg_pool2d"
    per_image: ClassVar[bool] = True
    kernel: ClassVar[str] = "adaptive_average_pool"


@dataclass(eq=False)
class AdaptiveMaxPool2D(_Maxima, _AdaptivePool2D):
    """The largest value of each of ``output_size`` bins, which are PyTorch's. Input (h, w, c), output (p, q, c).

    The first of equal maxima gets the gradient.
    """

    op: ClassVar[str] = "adaptive_max_pool2d"
    per_image: ClassVar[bool] = True
    kernel: ClassVar[str] = "adaptive_max_pool"
