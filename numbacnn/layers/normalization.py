"""Layers that normalise: by the batch, by groups of channels, by neighbouring channels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

from numbacnn._checks import number, whole
from numbacnn.errors import ArgumentError, GeometryError
from numbacnn.geometry import Shape, image_shape
from numbacnn.layers.base import Layer, ParameterSpec, ScratchSpec
from numbacnn.layers.bindings import Bindings, Kernels, Sizes


@dataclass(eq=False)
class BatchNorm(Layer):
    """(x − mean) / √(variance + eps) · weight + bias, channel by channel (Ioffe and Szegedy 2015).

    Input (h, w, c) or (c,), output alike; ``weight`` (ones at first), ``bias`` (zeros), state ``running_mean`` (zeros)
    and ``running_var`` (ones), each (c,), float32. Training normalises by mean and biased variance of the batch, over
    images and pixels, and moves the running statistics towards the batch's by the share ``momentum``, the variance in
    its unbiased form; inference normalises by the running statistics. Both as in PyTorch. Raises ArgumentError for
    arguments out of range, and where a batch has one value for each channel: it has no variance.
    """

    op: ClassVar[str] = "batch_norm"
    reads_x: ClassVar[bool] = True
    normalizes: ClassVar[bool] = True
    depends_on_mode: ClassVar[bool] = True
    fuses: ClassVar[frozenset[str]] = frozenset({"relu"})

    momentum: float = 0.1
    eps: float = 1e-5

    def __post_init__(self) -> None:
        self.momentum = number(self.momentum, "momentum", 0, 1)
        self.eps = number(self.eps, "eps", 0)

    def geometry(self, shapes: Sequence[Shape]) -> tuple[int, int, int]:
        """(h, w, c)."""
        return _as_image(shapes[0])

    def parameters(self, shapes: Sequence[Shape]) -> Mapping[str, ParameterSpec]:
        """``weight`` and ``bias``."""
        return _weight_and_bias(shapes[0])

    def state(self, shapes: Sequence[Shape]) -> Mapping[str, ParameterSpec]:
        """``running_mean`` and ``running_var``."""
        c = shapes[0][-1:]
        return {"running_mean": ParameterSpec(c, "zeros"), "running_var": ParameterSpec(c, "ones")}

    def check_training(self, geometry: tuple[int, int, int], batch: int) -> None:
        """One value for each channel has no variance."""
        h, w, _ = geometry
        if batch * h * w == 1:
            raise ArgumentError("1 image of 1×1 pixels has no variance; train on batches of at least 2 images")

    def scratch(self, sizes: Sizes, geometry: tuple[int, int, int], batch: int) -> Mapping[str, ScratchSpec]:
        """Statistics, partial sums, and the numbers that each channel is multiplied by."""
        h, w, c = geometry
        return {
            "statistics": ScratchSpec(sizes.batch_norm_pattern_shape(c), "saved"),
            "pattern": ScratchSpec(sizes.batch_norm_pattern_shape(c), "forward"),
            "partial": ScratchSpec(sizes.batch_norm_partial_shape(batch, h, w, c), "forward"),
            "pattern_gradient": ScratchSpec(sizes.batch_norm_gradient_shape(c), "backward"),
            "partial_gradient": ScratchSpec(sizes.batch_norm_partial_gradient_shape(batch, h, w, c), "backward"),
        }

    def flops(self, geometry: tuple[int, int, int], output_shape: Shape) -> int:
        """Two for each element: in inference, one multiply-add."""
        return 2 * prod(output_shape)

    def forward(self, kernels: Kernels, t: Bindings, g: tuple[int, int, int]) -> None:
        """y from the batch's statistics, which move the running ones; in inference from the running ones."""
        relu = t.fused == "relu"
        if t.training:
            running = t.running_mean, t.running_var
            scratch = t.pattern, t.partial
            kernels.batch_norm_forward(
                t.y, t.statistics, *running, t.x, t.weight, t.bias, *scratch, self.momentum, self.eps, relu
            )
        else:
            kernels.batch_norm_inference(
                t.y, t.statistics, t.x, t.weight, t.bias, t.running_mean, t.running_var, t.pattern, self.eps, relu
            )

    def backward(self, kernels: Kernels, t: Bindings, g: tuple[int, int, int]) -> None:
        """The gradients of weight, bias and x."""
        scratch = t.statistics, t.pattern_gradient, t.partial_gradient
        kernels.batch_norm_gradient(t.dx, t.d_weight, t.d_bias, t.dy, t.x, t.weight, *scratch, t.training)


@dataclass(eq=False)
class GroupNorm(Layer):
    """(x − mean) / √(variance + eps) · weight + bias, each image by itself, over its pixels and the channels of each of
    ``groups`` groups (Wu and He 2018, equation 1).

    ``groups=1`` normalises all of an image at once, as layer normalisation does; as many groups as channels make it
    instance normalisation. Input (h, w, c) or (c,), output alike; ``weight`` (ones at first) and ``bias`` (zeros), each
    (c,), float32. Raises ArgumentError for arguments out of range, GeometryError where ``groups`` does not divide the
    channels or a group has one value alone.
    """

    op: ClassVar[str] = "group_norm"
    reads_x: ClassVar[bool] = True
    normalizes: ClassVar[bool] = True
    fuses: ClassVar[frozenset[str]] = frozenset({"relu"})

    groups: int
    eps: float = 1e-5

    def __post_init__(self) -> None:
        self.groups = whole(self.groups, "groups")
        self.eps = number(self.eps, "eps", 0)

    def geometry(self, shapes: Sequence[Shape]) -> tuple[int, int, int]:
        """(h, w, c)."""
        h, w, c = _as_image(shapes[0])
        if c % self.groups:
            raise GeometryError(f"{c} channels do not divide into {self.groups} groups")
        if h * w * c == self.groups:
            raise GeometryError(f"{self.groups} groups of {h}×{w} pixels and {c} channels: 1 value has no variance")
        return h, w, c

    def output_shape(self, shapes: Sequence[Shape]) -> Shape:
        """The input's own."""
        self.geometry(shapes)
        return shapes[0]

    def parameters(self, shapes: Sequence[Shape]) -> Mapping[str, ParameterSpec]:
        """``weight`` and ``bias``."""
        return _weight_and_bias(shapes[0])

    def scratch(self, sizes: Sizes, geometry: tuple[int, int, int], batch: int) -> Mapping[str, ScratchSpec]:
        """Statistics, partial sums, and the numbers that each image's channels are multiplied by."""
        h, w, c = geometry
        return {
            "statistics": ScratchSpec(sizes.group_norm_pattern_shape(batch, c), "saved"),
            "pattern": ScratchSpec(sizes.group_norm_pattern_shape(batch, c), "forward"),
            "partial": ScratchSpec(sizes.group_norm_partial_shape(batch, h, w, c), "forward"),
            "pattern_gradient": ScratchSpec(sizes.group_norm_gradient_shape(batch, c), "backward"),
            "partial_gradient": ScratchSpec(sizes.group_norm_partial_gradient_shape(batch, h, w, c), "backward"),
            "sums": ScratchSpec((batch, 1, 2, c), "backward"),
        }

    def flops(self, geometry: tuple[int, int, int], output_shape: Shape) -> int:
        """Six for each element: two for its mean, two for its variance, one multiply-add."""
        return 6 * prod(output_shape)

    def forward(self, kernels: Kernels, t: Bindings, g: tuple[int, int, int]) -> None:
        """y from each image's own statistics."""
        scratch = t.pattern, t.partial
        kernels.group_norm_forward(
            t.y, t.statistics, t.x, t.weight, t.bias, *scratch, self.groups, self.eps, t.fused == "relu"
        )

    def backward(self, kernels: Kernels, t: Bindings, g: tuple[int, int, int]) -> None:
        """The gradients of weight, bias and x."""
        scratch = t.statistics, t.pattern_gradient, t.partial_gradient, t.sums
        kernels.group_norm_gradient(t.dx, t.d_weight, t.d_bias, t.dy, t.x, t.weight, *scratch, self.groups)


@dataclass(eq=False)
class LocalResponseNorm(Layer):
    """x[c] / (k + alpha/size · Σ x²)^beta, the sum over ``size`` neighbouring channels (Krizhevsky et al. 2012, 3.3).

    Input (h, w, c), output alike. As in PyTorch ``alpha`` is divided by ``size`` (the paper's is not), and the window
    of an even size reaches further down than up. Raises ArgumentError for arguments out of range, GeometryError where
    the input is no image.
    """

    op: ClassVar[str] = "local_response_norm"
    reads_x: ClassVar[bool] = True
    reads_y: ClassVar[bool] = True

    size: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 1.0

    def __post_init__(self) -> None:
        self.size = whole(self.size, "size")
        self.alpha, self.beta = number(self.alpha, "alpha", 0), number(self.beta, "beta", 0)
        self.k = number(self.k, "k", 0)

    def geometry(self, shapes: Sequence[Shape]) -> tuple[int, int, int]:
        """(h, w, c)."""
        return image_shape(shapes[0])

    def output_shape(self, shapes: Sequence[Shape]) -> Shape:
        """The input's own."""
        return self.geometry(shapes)

    def scratch(self, sizes: Sizes, geometry: tuple[int, int, int], batch: int) -> Mapping[str, ScratchSpec]:
        """What each element is divided by, computed anew: cheaper than to keep it."""
        return {"scales": ScratchSpec((batch, *geometry), "backward")}

    def flops(self, geometry: tuple[int, int, int], output_shape: Shape) -> int:
        """Two for each element of each window, two for scaling, one for the power, one for the product."""
        return (2 * self.size + 4) * prod(output_shape)

    def forward(self, kernels: Kernels, t: Bindings, g: tuple[int, int, int]) -> None:
        """y = x · s^−beta."""
        kernels.local_response_norm_forward(t.y, t.x, self.size, self.alpha, self.beta, self.k)

    def backward(self, kernels: Kernels, t: Bindings, g: tuple[int, int, int]) -> None:
        """The gradient of x."""
        constants = self.size, self.alpha, self.beta, self.k
        kernels.local_response_norm_gradient(t.dx, t.dy, t.x, t.y, t.scales, *constants)


def _as_image(shape: Shape) -> tuple[int, int, int]:
    """Features (c,) are images of one pixel."""
    return (1, 1, shape[0]) if len(shape) == 1 else (shape[0], shape[1], shape[2])


def _weight_and_bias(shape: Shape) -> Mapping[str, ParameterSpec]:
    return {"weight": ParameterSpec(shape[-1:], "ones"), "bias": ParameterSpec(shape[-1:], "zeros")}
