"""Activations, element by element, and softmax."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

from numbacnn._checks import number, one_of
from numbacnn.errors import ArgumentError
from numbacnn.geometry import Shape
from numbacnn.layers.base import Layer, ParameterSpec, ScratchSpec
from numbacnn.layers.bindings import Bindings, Kernels, Sizes


@dataclass(eq=False)
class _Activation(Layer):
    """y = f(x), with kernels named after the op; ``reads_x`` or ``reads_y`` says what the gradient comes from."""

    in_place_gradient: ClassVar[bool] = True

    def flops(self, geometry: Any, output_shape: Shape) -> int:
        """One for each element."""
        return prod(output_shape)

    def kernel(self) -> str:
        """The name that the kernels' names start with."""
        return self.op

    def constants(self) -> tuple[float, ...]:
        """Numbers that the kernels take last."""
        return ()

    def forward(self, kernels: Kernels, t: Bindings, g: None) -> None:
        """y = f(x)."""
        getattr(kernels, f"{self.kernel()}_forward")(t.y, t.x, *self.constants())

    def backward(self, kernels: Kernels, t: Bindings, g: None) -> None:
        """dx = dy · f'(x), in dy's memory."""
        source = t.y if self.reads_y else t.x
        getattr(kernels, f"{self.kernel()}_gradient_in_place")(t.dy, source, *self.constants())


@dataclass(eq=False)
class _MonotoneActivation(_Activation):
    """An activation that does not decrease, and whose derivative is known from y."""

    reads_y: ClassVar[bool] = True
    monotone: ClassVar[bool] = True


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
    """x where x ≥ 0, else ``slope`` · x, any shape. Raises ArgumentError for a negative slope."""

    op: ClassVar[str] = "leaky_relu"
    rectifies: ClassVar[bool] = True

    slope: float = 0.01

    def __post_init__(self) -> None:
        self.slope = number(self.slope, "slope", 0)

    def constants(self) -> tuple[float, ...]:
        """The slope."""
        return (self.slope,)


@dataclass(eq=False)
class ELU(_MonotoneActivation):
    """x where x > 0, else ``alpha`` · (eˣ − 1), any shape (Clevert et al. 2016). ArgumentError for a negative alpha."""

    op: ClassVar[str] = "elu"
    rectifies: ClassVar[bool] = True

    alpha: float = 1.0

    def __post_init__(self) -> None:
        self.alpha = number(self.alpha, "alpha", 0)

    def constants(self) -> tuple[float, ...]:
        """Alpha."""
        return (self.alpha,)


@dataclass(eq=False)
class PReLU(Layer):
    """x where x > 0, else ``weight`` · x with a weight for each channel, 0.25 at first (He et al. 2015, section 2.1).

    Images (h, w, c) or features (c,); ``weight`` c, float32.
    """

    op: ClassVar[str] = "prelu"
    reads_x: ClassVar[bool] = True
    in_place_gradient: ClassVar[bool] = True
    rectifies: ClassVar[bool] = True

    def geometry(self, shapes: Sequence[Shape]) -> Shape:
        """The image's shape."""
        return shapes[0] if len(shapes[0]) == 3 else (1, 1, *shapes[0])

    def parameters(self, shapes: Sequence[Shape]) -> Mapping[str, ParameterSpec]:
        """``weight``."""
        return {"weight": ParameterSpec(shapes[0][-1:], "quarters")}

    def scratch(self, sizes: Sizes, geometry: Shape, batch: int) -> Mapping[str, ScratchSpec]:
        """The weight's gradient at every element, and partial sums of it."""
        return {
            "parts": ScratchSpec((batch, *geometry), "backward"),
            "partial": ScratchSpec(sizes.partial_bias_shape(batch, *geometry), "backward"),
        }

    def flops(self, geometry: Shape, output_shape: Shape) -> int:
        """One for each element."""
        return prod(output_shape)

    def forward(self, kernels: Kernels, t: Bindings, g: Shape) -> None:
        """y = f(x)."""
        kernels.prelu_forward(t.y, t.x, t.weight)

    def backward(self, kernels: Kernels, t: Bindings, g: Shape) -> None:
        """dx = dy · f'(x), in dy's memory, and the gradient of weight."""
        parts = t.parts[: len(t.dy)]
        kernels.prelu_gradient_in_place(t.dy, parts, t.x, t.weight)
        kernels.bias_gradient(t.d_weight, parts, t.partial)


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
class Hardswish(_Activation):
    """x · min(max(x + 3, 0), 6) / 6, any shape (Howard et al. 2019, "Searching for MobileNetV3", section 5.2)."""

    op: ClassVar[str] = "hardswish"
    reads_x: ClassVar[bool] = True
    rectifies: ClassVar[bool] = True


@dataclass(eq=False)
class SiLU(_Activation):
    """x / (1 + e⁻ˣ), any shape; also called swish (Ramachandran et al. 2017)."""

    op: ClassVar[str] = "silu"
    reads_x: ClassVar[bool] = True
    rectifies: ClassVar[bool] = True


@dataclass(eq=False)
class GELU(_Activation):
    """x · Φ(x) with the normal distribution Φ, any shape (Hendrycks and Gimpel 2016).

    ``approximate`` "none" is exact; "tanh" is the paper's ½x · (1 + tanh(√(2/π) · (x + 0.044715x³))).
    """

    op: ClassVar[str] = "gelu"
    reads_x: ClassVar[bool] = True
    rectifies: ClassVar[bool] = True

    approximate: str = "none"

    def __post_init__(self) -> None:
        one_of(self.approximate, "approximate", ("none", "tanh"))

    def kernel(self) -> str:
        """That of the form chosen."""
        return "gelu_tanh" if self.approximate == "tanh" else "gelu"


@dataclass(eq=False)
class _OwnActivation(_Activation):
    """An activation from a user's scalar functions."""

    reads_x: ClassVar[bool] = True
    function: ClassVar[Callable[[Any], Any]]
    gradient: ClassVar[Callable[[Any, Any], Any]]

    def forward(self, kernels: Kernels, t: Bindings, g: None) -> None:
        """y = f(x)."""
        self._kernels(kernels)[0](t.y, t.x)

    def backward(self, kernels: Kernels, t: Bindings, g: None) -> None:
        """dx = the user's gradient of (dy, x), in dy's memory."""
        self._kernels(kernels)[1](t.dy, t.x)

    def _kernels(self, kernels: Kernels) -> Any:
        return kernels.activation_kernels(self.op, type(self).function, type(self).gradient)


def custom_activation(
    name: str, forward: Callable[[Any], Any], gradient: Callable[[Any, Any], Any], *, rectifies: bool = False
) -> type[Layer]:
    """An activation layer of your own, from two Python functions of float32 numbers, which Numba compiles.

    ``forward(x)`` gives y, ``gradient(dy, x)`` gives dx. ``name`` is the layer's kind in model files. ``rectifies``:
    it is ReLU-like, and weights before it are drawn as He et al. say. Returns the class:
    ``Swish = custom_activation(…)``, then ``Swish()`` in a model.
    Raises ArgumentError if a layer of numbacnn has that name.
    """
    for function, what in ((forward, "forward"), (gradient, "gradient")):
        if not callable(function):
            raise ArgumentError(f"{what}={function!r}: give a function of float32 numbers")
    title = "".join(part.title() for part in str(name).split("_"))
    members = {
        "__module__": forward.__module__,
        "__doc__": forward.__doc__ or f"The activation {name}.",
        "op": name,
        "rectifies": rectifies,
        "only_launches": True,
        "function": staticmethod(forward),
        "gradient": staticmethod(gradient),
    }
    return type(title, (_OwnActivation,), members)


@dataclass(eq=False)
class Softmax(Layer):
    """exp(x) / Σ exp(x) over the last axis, any shape."""

    op: ClassVar[str] = "softmax"
    reads_y: ClassVar[bool] = True

    def flops(self, geometry: None, output_shape: Shape) -> int:
        """Three for each element: exponential, sum, quotient."""
        return 3 * prod(output_shape)

    def forward(self, kernels: Kernels, t: Bindings, g: None) -> None:
        """y = softmax(x)."""
        kernels.softmax_forward(t.y, t.x)

    def backward(self, kernels: Kernels, t: Bindings, g: None) -> None:
        """dx = y · (dy − Σ dy·y)."""
        kernels.softmax_gradient(t.dx, t.dy, t.y)
