"""Elementwise activations, and softmax."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

from numbacnn._checks import number, one_of
from numbacnn.geometry import Shape, as_image
from numbacnn.layers.base import Layer, ParameterSpec, ScratchSpec
from numbacnn.layers.bindings import Bindings, Kernels, Sizes


@dataclass(eq=False)
class Activation(Layer):
    """y = f(x), with kernels named after the op. The derivative is computed from y if ``reads_y``, else from x."""

    in_place_gradient: ClassVar[bool] = True
    per_image: ClassVar[bool] = True

    def flops(self, geometry: None, output_shape: Shape) -> int:
        """Count one operation per element."""
        return prod(output_shape)

    def kernel(self) -> str:
        """Return the prefix of the kernels' names."""
        return self.op

    def constants(self) -> tuple[float, ...]:
        """Return the numbers that the kernels take last."""
        return ()

    def forward(self, kernels: Kernels, t: Bindings, g: None) -> None:
        """Compute y = f(x)."""
        getattr(kernels, f"{self.kernel()}_forward")(t.y, t.x, *self.constants())

    def backward(self, kernels: Kernels, t: Bindings, g: None) -> None:
        """Compute dx = dy · f'(x) in dy's memory."""
        source = t.y if self.reads_y else t.x
        getattr(kernels, f"{self.kernel()}_gradient_in_place")(t.dy, source, *self.constants())


@dataclass(eq=False)
class _MonotoneActivation(Activation):
    """An activation that never decreases, whose derivative is computed from y."""

    reads_y: ClassVar[bool] = True
    monotone: ClassVar[bool] = True


@dataclass(eq=False)
class _ShiftedActivation(Activation):
    """An activation like ReLU that is not zero below zero, whose derivative is computed from x."""

    reads_x: ClassVar[bool] = True
    rectifies: ClassVar[bool] = True


@dataclass(eq=False)
class ReLU(_MonotoneActivation):
    """max(x, 0), any shape. NaN stays NaN."""

    op: ClassVar[str] = "relu"
    rectifies: ClassVar[bool] = True


@dataclass(eq=False)
class ReLU6(_MonotoneActivation):
    """min(max(x, 0), 6), any shape. NaN stays NaN."""

    op: ClassVar[str] = "relu6"
    rectifies: ClassVar[bool] = True


@dataclass(eq=False)
class LeakyReLU(_MonotoneActivation):
    """x if x ≥ 0, else ``slope`` · x, any shape. Raises ArgumentError for a negative slope."""

    op: ClassVar[str] = "leaky_relu"
    rectifies: ClassVar[bool] = True

    slope: float = 0.01

    def __post_init__(self) -> None:
        self.slope = number(self.slope, "slope", 0)

    def constants(self) -> tuple[float, ...]:
        """Return the slope."""
        return (self.slope,)


@dataclass(eq=False)
class ELU(_ShiftedActivation):
    """x if x > 0, else ``alpha`` · (eˣ − 1), any shape (Clevert et al. 2016). Raises ArgumentError if alpha < 0."""

    op: ClassVar[str] = "elu"

    alpha: float = 1.0

    def __post_init__(self) -> None:
        self.alpha = number(self.alpha, "alpha", 0)

    def constants(self) -> tuple[float, ...]:
        """Return alpha."""
        return (self.alpha,)


@dataclass(eq=False)
class Tanh(_MonotoneActivation):
    """Hyperbolic tangent, any shape."""

    op: ClassVar[str] = "tanh"


@dataclass(eq=False)
class Sigmoid(_MonotoneActivation):
    """1 / (1 + e⁻ˣ), any shape."""

    op: ClassVar[str] = "sigmoid"


@dataclass(eq=False)
class Hardsigmoid(_MonotoneActivation):
    """min(max(x + 3, 0), 6) / 6, any shape."""

    op: ClassVar[str] = "hardsigmoid"


@dataclass(eq=False)
class Hardswish(_ShiftedActivation):
    """x · min(max(x + 3, 0), 6) / 6, any shape (Howard et al. 2019, "Searching for MobileNetV3", section 5.2)."""

    op: ClassVar[str] = "hardswish"


@dataclass(eq=False)
class SiLU(_ShiftedActivation):
    """x / (1 + e⁻ˣ), any shape; also called swish (Ramachandran et al. 2017)."""

    op: ClassVar[str] = "silu"


@dataclass(eq=False)
class GELU(_ShiftedActivation):
    """x · Φ(x), where Φ is the standard normal distribution, any shape (Hendrycks and Gimpel 2016).

    ``approximate`` "none" is exact; "tanh" is the paper's ½x · (1 + tanh(√(2/π) · (x + 0.044715x³))).
    """

    op: ClassVar[str] = "gelu"

    approximate: str = "none"

    def __post_init__(self) -> None:
        one_of(self.approximate, "approximate", ("none", "tanh"))

    def kernel(self) -> str:
        """Return the kernels' prefix for the chosen form."""
        return "gelu_tanh" if self.approximate == "tanh" else "gelu"


@dataclass(eq=False)
class PReLU(Layer):
    """x if x > 0, else ``weight`` · x, with a trained weight for each channel (He et al. 2015, section 2.1).

    Images (h, w, c) or features (c,); ``weight`` (c,), float32, initially 0.25.
    """

    op: ClassVar[str] = "prelu"
    reads_x: ClassVar[bool] = True
    in_place_gradient: ClassVar[bool] = True
    rectifies: ClassVar[bool] = True

    def geometry(self, shapes: Sequence[Shape]) -> Shape:
        """Return (h, w, c)."""
        return as_image(shapes[0])

    def parameters(self, shapes: Sequence[Shape]) -> Mapping[str, ParameterSpec]:
        """Return ``weight``."""
        return {"weight": ParameterSpec(shapes[0][-1:], "quarters")}

    def scratch(self, sizes: Sizes, geometry: Shape, batch: int) -> Mapping[str, ScratchSpec]:
        """Return the weight's gradient at every element, and its partial sums."""
        return {
            "parts": ScratchSpec((batch, *geometry), "backward"),
            "partial": ScratchSpec(sizes.partial_bias_shape(batch, *geometry), "backward"),
        }

    def flops(self, geometry: Shape, output_shape: Shape) -> int:
        """Count one operation per element."""
        return prod(output_shape)

    def forward(self, kernels: Kernels, t: Bindings, g: Shape) -> None:
        """Compute y = f(x)."""
        kernels.prelu_forward(t.y, t.x, t.weight)

    def backward(self, kernels: Kernels, t: Bindings, g: Shape) -> None:
        """Compute dx = dy · f'(x) in dy's memory, and the gradient of weight."""
        parts = t.parts[: len(t.dy)]
        kernels.prelu_gradient_in_place(t.dy, parts, t.x, t.weight)
        kernels.bias_gradient(t.d_weight, parts, t.partial)


@dataclass(eq=False)
class Softmax(Layer):
    """exp(x) / Σ exp(x) over the last axis, any shape."""

    op: ClassVar[str] = "softmax"
    per_image: ClassVar[bool] = True
    reads_y: ClassVar[bool] = True

    def flops(self, geometry: None, output_shape: Shape) -> int:
        """Count three operations per element: exponential, sum and quotient."""
        return 3 * prod(output_shape)

    def forward(self, kernels: Kernels, t: Bindings, g: None) -> None:
        """Compute y = softmax(x)."""
        kernels.softmax_forward(t.y, t.x)

    def backward(self, kernels: Kernels, t: Bindings, g: None) -> None:
        """Compute dx = y · (dy − Σ dy·y)."""
        kernels.softmax_gradient(t.dx, t.dy, t.y)


@dataclass(eq=False)
class LogSoftmax(Layer):
    """x − log Σ exp(x) over the last axis, the logarithm of ``Softmax``, any shape."""

    op: ClassVar[str] = "log_softmax"
    per_image: ClassVar[bool] = True
    reads_y: ClassVar[bool] = True

    def flops(self, geometry: None, output_shape: Shape) -> int:
        """Count three operations per element: exponential, sum and difference."""
        return 3 * prod(output_shape)

    def forward(self, kernels: Kernels, t: Bindings, g: None) -> None:
        """Compute y = log softmax(x)."""
        kernels.log_softmax_forward(t.y, t.x)

    def backward(self, kernels: Kernels, t: Bindings, g: None) -> None:
        """Compute dx = dy − exp(y) · Σ dy."""
        kernels.log_softmax_gradient(t.dx, t.dy, t.y)
