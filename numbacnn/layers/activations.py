"""Activations, element by element, and softmax."""

from dataclasses import dataclass
from math import prod
from types import SimpleNamespace
from typing import Any, ClassVar

from numbacnn.geometry import Shape
from numbacnn.layers.base import Layer


@dataclass(eq=False)
class _Activation(Layer):
    """y = f(x), with kernels named after the op, whose derivative is known from y; f does not decrease."""

    reads_y: ClassVar[bool] = True
    in_place_gradient: ClassVar[bool] = True
    monotone: ClassVar[bool] = True

    def flops(self, geometry: None, output_shape: Shape) -> int:
        """One for each element."""
        return prod(output_shape)

    def forward(self, kernels: Any, t: SimpleNamespace, g: None) -> None:
        """y = f(x)."""
        getattr(kernels, f"{self.op}_forward")(t.y, t.x)

    def backward(self, kernels: Any, t: SimpleNamespace, g: None) -> None:
        """dx = dy · f'(x), in dy's memory."""
        getattr(kernels, f"{self.op}_gradient_in_place")(t.dy, t.y)


@dataclass(eq=False)
class ReLU(_Activation):
    """max(x, 0), any shape. NaN stays NaN."""

    op: ClassVar[str] = "relu"
    rectifies: ClassVar[bool] = True


@dataclass(eq=False)
class Tanh(_Activation):
    """Hyperbolic tangent, any shape."""

    op: ClassVar[str] = "tanh"


@dataclass(eq=False)
class Sigmoid(_Activation):
    """1 / (1 + e⁻ˣ), any shape."""

    op: ClassVar[str] = "sigmoid"


@dataclass(eq=False)
class Softmax(Layer):
    """exp(x) / Σ exp(x) over the last axis, any shape."""

    op: ClassVar[str] = "softmax"
    reads_y: ClassVar[bool] = True

    def flops(self, geometry: None, output_shape: Shape) -> int:
        """Three for each element: exponential, sum, quotient."""
        return 3 * prod(output_shape)

    def forward(self, kernels: Any, t: SimpleNamespace, g: None) -> None:
        """y = softmax(x)."""
        kernels.softmax_forward(t.y, t.x)

    def backward(self, kernels: Any, t: SimpleNamespace, g: None) -> None:
        """dx = y · (dy − Σ dy·y)."""
        kernels.softmax_gradient(t.dx, t.dy, t.y)
