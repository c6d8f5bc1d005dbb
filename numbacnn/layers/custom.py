"""Custom activations: layers made from two scalar functions. A custom layer of another kind is a subclass of ``Layer``.

docs/custom-layers.md describes both.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from numbacnn._checks import check_takes, shown
from numbacnn._checks.names import checks_call
from numbacnn.errors import ArgumentError
from numbacnn.layers.activations import Activation
from numbacnn.layers.base import Layer
from numbacnn.layers.bindings import Bindings, Kernels

Scalar = Callable[..., Any]  # of float32 numbers, compiled by Numba


@dataclass(eq=False)
class _CustomActivation(Activation):
    """An activation from two scalar functions."""

    reads_x: ClassVar[bool] = True
    function: ClassVar[Scalar]
    gradient: ClassVar[Scalar]

    def forward(self, kernels: Kernels, t: Bindings, g: None) -> None:
        """Compute y = function(x)."""
        self._kernels(kernels)[0](t.y, t.x)

    def backward(self, kernels: Kernels, t: Bindings, g: None) -> None:
        """Compute dx = gradient(dy, x) in dy's memory."""
        self._kernels(kernels)[1](t.dy, t.x)

    def _kernels(self, kernels: Kernels) -> tuple[Callable[..., None], Callable[..., None]]:
        cls = type(self)
        found: tuple[Callable[..., None], Callable[..., None]]
        found = kernels.activation_kernels(self.op, cls.function, cls.gradient)
        return found


@checks_call
def custom_activation(name: str, forward: Scalar, gradient: Scalar, *, rectifies: bool = False) -> type[Layer]:
    """Return an activation layer made from two Python functions of float32 numbers, which Numba compiles.

    ``forward(x)`` returns y, and ``gradient(dy, x)`` returns dx. ``name`` is the layer's kind in model files. If it
    ``rectifies``, it is like ReLU, and the weights before it are drawn from He's distribution. The result is a class:
    ``Swish = custom_activation(…)``, then ``Swish()`` in a model.
    Raises ArgumentError if a layer of numbacnn has that name.
    """
    for function, argument in ((forward, "forward"), (gradient, "gradient")):
        if not callable(function):
            raise ArgumentError(f"{argument}={shown(function)}: pass a function of float32 numbers")
    check_takes(forward, "x", "forward", "pass one of the number x that returns y")
    check_takes(gradient, "dy, x", "gradient", "pass one of the numbers dy and x that returns dx")
    members = {
        "__module__": forward.__module__,
        "__doc__": forward.__doc__ or f"The activation {name}.",
        "op": name,
        "rectifies": rectifies,
        "only_launches": True,
        "function": staticmethod(forward),
        "gradient": staticmethod(gradient),
    }
    class_name = "".join(part.title() for part in str(name).split("_"))
    return type(class_name, (_CustomActivation,), members)
