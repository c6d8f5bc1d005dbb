"""Layers of several inputs."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from types import SimpleNamespace
from typing import Any, ClassVar

from numbacnn.errors import GeometryError
from numbacnn.geometry import Shape
from numbacnn.layers.base import Layer


@dataclass(eq=False)
class Add(Layer):
    """The sum of two or more inputs of one shape, in their order."""

    op: ClassVar[str] = "add"
    inputs: ClassVar[int | None] = None

    def output_shape(self, shapes: Sequence[Shape]) -> Shape:
        """The inputs' own."""
        if len(set(shapes)) > 1:
            raise GeometryError(f"inputs differ in shape: {', '.join(map(str, shapes))}")
        return shapes[0]

    def flops(self, geometry: None, output_shape: Shape) -> int:
        """One for each element; two inputs."""
        return prod(output_shape)

    def forward(self, kernels: Any, t: SimpleNamespace, g: None) -> None:
        """y = Σ x."""
        kernels.copy(t.y, t.xs[0])
        for x in t.xs[1:]:
            kernels.add_in_place(t.y, x)

    def backward(self, kernels: Any, t: SimpleNamespace, g: None) -> None:
        """Each input's gradient is dy."""
        for dx in t.dxs:
            if dx is not None:
                kernels.copy(dx, t.dy)
