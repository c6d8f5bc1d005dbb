"""Layers with several inputs."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import prod
from typing import ClassVar

from numbacnn._checks import whole
from numbacnn.errors import GeometryError
from numbacnn.geometry import Shape, image_shape
from numbacnn.layers.activations import ReLU, Sigmoid
from numbacnn.layers.base import Layer, S
from numbacnn.layers.bindings import Bindings, Kernels
from numbacnn.layers.dense import Dense
from numbacnn.layers.pooling import GlobalAvgPool2D


class _OfOneShape(Layer):
    """A layer with inputs of one shape, which is also that of the output."""

    def output_shape(self, shapes: Sequence[Shape]) -> Shape:
        """Return the shape of the inputs."""
        if len(set(shapes)) > 1:
            raise GeometryError(f"inputs differ in shape: {_listed(shapes)}")
        return shapes[0]

    def flops(self, geometry: None, output_shape: Shape) -> int:
        """Count one operation per element, as for two inputs."""
        return prod(output_shape)


@dataclass(eq=False)
class Add(_OfOneShape):
    """The sum of two or more inputs of the same shape, added in order. Raises GeometryError for different shapes."""

    op: ClassVar[str] = "add"
    per_image: ClassVar[bool] = True
    inputs: ClassVar[int | None] = None
    fuses: ClassVar[frozenset[str]] = frozenset({"relu"})

    def forward(self, kernels: Kernels, t: Bindings, g: None) -> None:
        """Compute y = Σ x."""
        relu, last = t.fused == "relu", len(t.xs) - 1
        kernels.add(t.y, t.xs[0], t.xs[1], relu and last == 1)
        for i in range(2, last + 1):
            (kernels.add_relu_in_place if relu and i == last else kernels.add_in_place)(t.y, t.xs[i])

    def backward(self, kernels: Kernels, t: Bindings, g: None) -> None:
        """Copy dy to each input's gradient."""
        for dx in t.dxs:
            if dx is not None:
                kernels.copy(dx, t.dy)


@dataclass(eq=False)
class Concat(Layer):
    """The channels of two or more inputs, concatenated in order.

    Inputs (h, w, c₁), (h, w, c₂) … of the same height and width, output (h, w, c₁ + c₂ + …); or features (n₁,), (n₂,)
    …. Raises GeometryError if heights or widths differ.
    """

    op: ClassVar[str] = "concat"
    per_image: ClassVar[bool] = True
    inputs: ClassVar[int | None] = None

    def geometry(self, shapes: Sequence[Shape]) -> list[slice]:
        """Return the slice of output channels that each input becomes."""
        ends = accumulate((shape[-1] for shape in shapes), initial=0)
        return [slice(first, end) for first, end in pairwise(ends)]

    def output_shape(self, shapes: Sequence[Shape]) -> Shape:
        """Return (h, w, Σ c)."""
        if len({shape[:-1] for shape in shapes}) > 1:
            raise GeometryError(f"inputs differ in more than their channels: {_listed(shapes)}")
        return *shapes[0][:-1], sum(shape[-1] for shape in shapes)

    def forward(self, kernels: Kernels, t: Bindings, g: list[slice]) -> None:
        """Copy each input to its channels of y."""
        for x, channels in zip(t.xs, g, strict=True):
            kernels.copy_channels(t.y[..., channels], x)

    def backward(self, kernels: Kernels, t: Bindings, g: list[slice]) -> None:
        """Copy each input's channels of dy to its gradient."""
        for dx, channels in zip(t.dxs, g, strict=True):
            if dx is not None:
                kernels.copy_channels(dx, t.dy[..., channels])


@dataclass(eq=False)
class Multiply(Layer):
    """The product of two inputs of the same shape, or of an image (h, w, c) and a gate (1, 1, c) or (c,) in any order.

    A gate has one factor for each channel of each image, as in squeeze-and-excitation networks. Raises GeometryError
    for other shapes.
    """

    op: ClassVar[str] = "multiply"
    per_image: ClassVar[bool] = True
    inputs: ClassVar[int | None] = 2
    reads_x: ClassVar[bool] = True

    def geometry(self, shapes: Sequence[Shape]) -> int | None:
        """Return the index of the input that is a gate, or None."""
        if shapes[0] == shapes[1]:
            return None
        for gate, image in ((1, 0), (0, 1)):
            if len(shapes[image]) == 3 and shapes[gate] in ((1, 1, shapes[image][2]), shapes[image][2:]):
                return gate
        raise GeometryError(
            f"inputs of shapes {_listed(shapes)}: pass two of one shape, or an image (h, w, c) and (1, 1, c) or (c,)"
        )

    def output_shape(self, shapes: Sequence[Shape]) -> Shape:
        """Return the shape of the image."""
        gate = self.geometry(shapes)
        return shapes[0 if gate is None else 1 - gate]

    def flops(self, geometry: int | None, output_shape: Shape) -> int:
        """Count one operation per element."""
        return prod(output_shape)

    def forward(self, kernels: Kernels, t: Bindings, g: int | None) -> None:
        """Compute y = a · b."""
        if g is None:
            kernels.multiply(t.y, *t.xs)
        else:
            kernels.scale_channels(t.y, t.xs[1 - g], t.xs[g])

    def backward(self, kernels: Kernels, t: Bindings, g: int | None) -> None:
        """Compute da = dy · b, and db = dy · a, summed over the pixels if b is a gate."""
        for i, dx in enumerate(t.dxs):
            if dx is not None:
                kernel = kernels.multiply if g is None else kernels.channel_dots if g == i else kernels.scale_channels
                kernel(dx, t.dy, t.xs[1 - i])


@dataclass(eq=False)
class _Extreme(_OfOneShape):
    """The larger or smaller of two inputs, element by element; of equal ones the first gets the gradient."""

    inputs: ClassVar[int | None] = 2
    reads_x: ClassVar[bool] = True

    def forward(self, kernels: Kernels, t: Bindings, g: None) -> None:
        """Compute y."""
        getattr(kernels, self.op)(t.y, *t.xs)

    def backward(self, kernels: Kernels, t: Bindings, g: None) -> None:
        """Copy dy to the gradient of the input that y is."""
        larger, smaller = t.xs if self.op == "maximum" else t.xs[::-1]  # where the first input is chosen
        for dx, kernel in zip(t.dxs, (kernels.where_not_less, kernels.where_less), strict=True):
            if dx is not None:
                kernel(dx, t.dy, larger, smaller)


@dataclass(eq=False)
class Maximum(_Extreme):
    """The larger of two inputs of the same shape, element by element; NaN if one of them is.

    Of equal elements the first input's gets the gradient. Raises GeometryError for different shapes.
    """

    op: ClassVar[str] = "maximum"
    per_image: ClassVar[bool] = True


@dataclass(eq=False)
class Minimum(_Extreme):
    """The smaller of two inputs of the same shape, element by element; NaN if one of them is.

    Of equal elements the first input's gets the gradient. Raises GeometryError for different shapes.
    """

    op: ClassVar[str] = "minimum"
    per_image: ClassVar[bool] = True


def squeeze_excite(x: S, reduction: int = 16) -> S:
    """Record a squeeze-and-excitation block on the symbolic image ``x`` (h, w, c); the result has the same shape.

    Every channel is scaled by a factor in (0, 1) that two dense layers, with c/``reduction`` units and c, compute from
    the means of all channels (Hu et al. 2018, section 3, equations 2 to 4).
    """
    c = image_shape(x.shape)[2]
    hidden = ReLU()(Dense(max(1, c // whole(reduction, "reduction")))(GlobalAvgPool2D()(x)))
    return Multiply()([x, Sigmoid()(Dense(c)(hidden))])


def _listed(shapes: Sequence[Shape]) -> str:
    return ", ".join(map(str, shapes))
