"""Normalization over the batch, over groups of channels, and over neighboring channels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import inf, nan, prod
from typing import ClassVar

from numbacnn._checks import number, whole
from numbacnn.errors import ArgumentError, GeometryError
from numbacnn.geometry import Shape, as_image, image_shape
from numbacnn.layers.algorithms import ConvAlgorithm
from numbacnn.layers.base import Layer, ParameterSpec, ScratchSpec
from numbacnn.layers.bindings import Bindings, Kernels, Sizes

Size = tuple[int, int, int]  # (h, w, c)

CEILINGS = {None: nan, "relu": inf, "relu6": 6.0}  # of the outputs after an activation, which are not below 0


@lru_cache(256)
def _scratch(sizes: Sizes, sets: int, rows: int, w: int, c: int) -> Mapping[str, ScratchSpec]:
    """Return the scratch to normalize ``sets`` sets, of ``rows`` rows of w pixels each, by their statistics."""
    return {
        "statistics": ScratchSpec(sizes.norm_coefficients_shape(sets, 5, c), "saved"),
        "coefficients": ScratchSpec(sizes.norm_coefficients_shape(sets, 3, c), "forward"),
        "partial": ScratchSpec(sizes.norm_partial_shape(sets, rows, 3, w, c), "forward"),
        "gradient_coefficients": ScratchSpec(sizes.norm_coefficients_shape(sets, 3, c), "backward"),
        "partial_gradient": ScratchSpec(sizes.norm_partial_shape(sets, rows, 2, w, c), "backward"),
        "gradients": ScratchSpec((sets, 1, 2, c), "backward"),
    }


@dataclass(eq=False)
class _AffineNorm(Layer):
    """A normalization followed by a scale and shift for each channel, ``weight`` and ``bias``."""

    reads_x: ClassVar[bool] = True
    normalizes: ClassVar[bool] = True
    fuses: ClassVar[frozenset[str]] = frozenset({"relu", "relu6"})
    clamps_gradient: ClassVar[bool] = True

    def geometry(self, shapes: Sequence[Shape]) -> Size:
        """Return (h, w, c)."""
        return as_image(shapes[0])

    def parameters(self, shapes: Sequence[Shape]) -> Mapping[str, ParameterSpec]:
        """Return ``weight`` and ``bias``."""
        return {"weight": ParameterSpec(shapes[0][-1:], "ones"), "bias": ParameterSpec(shapes[0][-1:], "zeros")}


@dataclass(eq=False)
class BatchNorm(_AffineNorm):
    """(x − mean) / √(variance + eps) · weight + bias for each channel (Ioffe and Szegedy 2015).

    Input and output (h, w, c) or (c,); ``weight`` (initially ones) and ``bias`` (zeros), state ``running_mean`` (zeros)
    and ``running_var`` (ones), each (c,), float32. Training uses mean and biased variance of the batch, over images and
    pixels, and moves the running statistics towards the batch's by the factor ``momentum``, the variance in its
    unbiased form; inference uses the running statistics. Both as in PyTorch. Raises ArgumentError for arguments out of
    range, and in training on a batch with one value for each channel, which has no variance.
    """

    op: ClassVar[str] = "batch_norm"
    depends_on_mode: ClassVar[bool] = True

    momentum: float = 0.1
    eps: float = 1e-5

    def __post_init__(self) -> None:
        self.momentum = number(self.momentum, "momentum", 0, 1)
        self.eps = number(self.eps, "eps", 0)

    def state(self, shapes: Sequence[Shape]) -> Mapping[str, ParameterSpec]:
        """Return ``running_mean`` and ``running_var``."""
        c = shapes[0][-1:]
        return {"running_mean": ParameterSpec(c, "zeros"), "running_var": ParameterSpec(c, "ones")}

    def check_training(self, geometry: Size, batch: int) -> None:
        """Raise ArgumentError if there is one value for each channel."""
        h, w, _ = geometry
        if batch * h * w == 1:
            raise ArgumentError("1 image of 1×1 pixels has no variance; train on batches of at least 2 images")

    def scratch(self, sizes: Sizes, geometry: Size, batch: int) -> Mapping[str, ScratchSpec]:
        """Return statistics, partial sums, and the scale and shift of each channel."""
        h, w, c = geometry
        return _scratch(sizes, 1, batch * h, w, c)

    def flops(self, geometry: Size, output_shape: Shape) -> int:
        """Count one multiply-add per element, as in inference."""
        return 2 * prod(output_shape)

    def forward(self, kernels: Kernels, t: Bindings, g: Size) -> None:
        """Compute y from the batch's statistics and update the running ones; in inference, from the running ones."""
        ceiling = CEILINGS[t.fused]
        running = t.running_mean, t.running_var
        if t.training:
            scratch = t.coefficients, t.partial
            kernels.batch_norm_forward(
                t.y, t.statistics, *running, t.x, t.weight, t.bias, *scratch, self.momentum, self.eps, ceiling, t.shards
            )
        else:
            kernels.batch_norm_inference(
                t.y, t.statistics, t.x, t.weight, t.bias, *running, t.coefficients, self.eps, ceiling
            )

    def backward(self, kernels: Kernels, t: Bindings, g: Size) -> None:
        """Compute the gradients of weight, bias and x."""
        scratch = t.statistics, t.gradient_coefficients, t.partial_gradient, t.gradients
        kernels.batch_norm_gradient(
            t.dx, t.d_weight, t.d_bias, t.dy, t.x, t.weight, *scratch, t.training, CEILINGS[t.fused], t.shards
        )

    def shards_at_once(
        self,
        sizes: Sizes,
        algorithms: Mapping[str, ConvAlgorithm],
        geometry: Size,
        batch: int,
        images: Sequence[int],
    ) -> Mapping[str, int]:
        """Return the number of the device's kernels, of shards with images."""
        count = sizes.SHARDS_AT_ONCE if min(images) else min(1, sizes.SHARDS_AT_ONCE)
        return {"weight": count, "bias": count}

    def shard_scratch(self, sizes: Sizes, geometry: Size, images: int, shards: int) -> Mapping[str, ScratchSpec]:
        """Return statistics, partial sums, and the scale and shift of each channel, for each shard."""
        h, w, c = geometry
        return _scratch(sizes, shards, images * h, w, c)

    # A batch in shards, normalized as a whole: each shard is summed, the sums are added, and then applied.

    def sums_size(self, geometry: Size) -> int:
        """Return the length of ``t.batch_sums``: two sums for each channel, and the number of values."""
        return 2 * geometry[2] + 1

    def sum_forward(self, kernels: Kernels, t: Bindings, g: Size) -> None:
        """Sum x and x² of a shard."""
        kernels.batch_norm_sums(t.batch_sums, t.x, t.partial)

    def forward_from_sums(self, kernels: Kernels, t: Bindings, g: Size) -> None:
        """Compute y from the sums over the whole batch, and update the running statistics."""
        arrays = t.running_mean, t.running_var, t.batch_sums, t.x, t.weight, t.bias, t.coefficients
        kernels.batch_norm_from_sums(t.y, t.statistics, *arrays, self.momentum, self.eps, CEILINGS[t.fused])

    def sum_backward(self, kernels: Kernels, t: Bindings, g: Size) -> None:
        """Sum dy and dy · x̂ of a shard: the gradients of bias and weight."""
        kernels.batch_norm_gradient_sums(
            t.batch_sums, t.d_weight, t.d_bias, t.dy, t.x, t.statistics, t.partial_gradient, CEILINGS[t.fused]
        )

    def backward_from_sums(self, kernels: Kernels, t: Bindings, g: Size) -> None:
        """Compute the gradient of x from the sums over the whole batch."""
        if t.dx is not None:
            kernels.batch_norm_gradient_from_sums(
                t.dx, t.batch_sums, t.dy, t.x, t.weight, t.statistics, t.gradient_coefficients, CEILINGS[t.fused]
            )


@dataclass(eq=False)
class GroupNorm(_AffineNorm):
    """(x − mean) / √(variance + eps) · weight + bias, with statistics over the pixels and channels of a group.

    Each image is normalized on its own, its channels in ``groups`` groups (Wu and He 2018, equation 1). ``groups=1`` is
    layer normalization over the whole image; as many groups as channels make it instance normalization. Input and
    output (h, w, c) or (c,); ``weight`` (initially ones) and ``bias`` (zeros), each (c,), float32. Raises ArgumentError
    for arguments out of range, GeometryError if ``groups`` does not divide the channels or a group has only one value.
    """

    op: ClassVar[str] = "group_norm"

    groups: int
    eps: float = 1e-5

    def __post_init__(self) -> None:
        self.groups = whole(self.groups, "groups")
        self.eps = number(self.eps, "eps", 0)

    def geometry(self, shapes: Sequence[Shape]) -> Size:
        """Return (h, w, c)."""
        h, w, c = as_image(shapes[0])
        if c % self.groups:
            raise GeometryError(f"{c} channels do not divide into {self.groups} groups")
        if h * w * c == self.groups:
            raise GeometryError(f"{self.groups} groups of {h}×{w} pixels and {c} channels: 1 value has no variance")
        return h, w, c

    def output_shape(self, shapes: Sequence[Shape]) -> Shape:
        """Return the input's shape."""
        self.geometry(shapes)
        return shapes[0]

    def scratch(self, sizes: Sizes, geometry: Size, batch: int) -> Mapping[str, ScratchSpec]:
        """Return statistics, partial sums, and the scale and shift of each image's channels."""
        h, w, c = geometry
        return _scratch(sizes, batch, h, w, c)

    def flops(self, geometry: Size, output_shape: Shape) -> int:
        """Count six operations per element: two for its mean, two for its variance, one multiply-add."""
        return 6 * prod(output_shape)

    def forward(self, kernels: Kernels, t: Bindings, g: Size) -> None:
        """Compute y from each image's own statistics."""
        scratch = t.coefficients, t.partial
        kernels.group_norm_forward(
            t.y, t.statistics, t.x, t.weight, t.bias, *scratch, self.groups, self.eps, CEILINGS[t.fused]
        )

    def backward(self, kernels: Kernels, t: Bindings, g: Size) -> None:
        """Compute the gradients of weight, bias and x."""
        scratch = t.statistics, t.gradient_coefficients, t.partial_gradient, t.gradients
        arrays = t.dx, t.d_weight, t.d_bias, t.dy, t.x, t.weight, *scratch
        kernels.group_norm_gradient(*arrays, self.groups, CEILINGS[t.fused])


@dataclass(eq=False)
class LocalResponseNorm(Layer):
    """x[c] / (k + alpha/size · Σ x²)^beta, summed over ``size`` neighboring channels (Krizhevsky et al. 2012, 3.3).

    Input and output (h, w, c). As in PyTorch, ``alpha`` is divided by ``size`` (the paper's is not), and a window of
    even size extends further towards lower channels. Raises ArgumentError for arguments out of range, GeometryError if
    the input is not an image.
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

    def geometry(self, shapes: Sequence[Shape]) -> Size:
        """Return (h, w, c)."""
        return image_shape(shapes[0])

    def output_shape(self, shapes: Sequence[Shape]) -> Shape:
        """Return the input's shape."""
        return self.geometry(shapes)

    def scratch(self, sizes: Sizes, geometry: Size, batch: int) -> Mapping[str, ScratchSpec]:
        """Return each element's divisor, which backward recomputes: that is cheaper than saving it."""
        return {"scales": ScratchSpec((batch, *geometry), "backward")}

    def flops(self, geometry: Size, output_shape: Shape) -> int:
        """Count per element two operations for each channel of its window, and four for scale, power and product."""
        size, _ = self._window(geometry)
        return (2 * size + 4) * prod(output_shape)

    def forward(self, kernels: Kernels, t: Bindings, g: Size) -> None:
        """Compute y = x · s^−beta."""
        kernels.local_response_norm_forward(t.y, t.x, *self._window(g), self.beta, self.k)

    def backward(self, kernels: Kernels, t: Bindings, g: Size) -> None:
        """Compute the gradient of x."""
        constants = *self._window(g), self.beta, self.k
        kernels.local_response_norm_gradient(t.dx, t.dy, t.x, t.y, t.scales, *constants)

    def _window(self, geometry: Size) -> tuple[int, float]:
        """Return the window's size, no larger than what reaches all channels, and ``alpha`` for the same quotient."""
        size = min(self.size, 2 * geometry[2])
        return size, self.alpha if size == self.size else self.alpha * size / self.size
