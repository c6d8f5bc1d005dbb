"""The base class of layers with weights: penalties, and an activation of their output."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numbacnn._checks import choose, number, shown
from numbacnn._checks.names import checks_call
from numbacnn.errors import ArgumentError
from numbacnn.geometry import Shape
from numbacnn.layers.activations import Activation, PReLU, Softmax
from numbacnn.layers.base import Layer, ParameterSpec, S
from numbacnn.layers.bindings import Array, Bindings, Kernels
from numbacnn.layers.registry import REGISTRY


def as_activation(given: str | Layer | type[Layer]) -> Layer:
    """Return an activation layer from its name in model files, such as "relu", from its class, or as it is."""
    if isinstance(given, str):
        known = {op: kind for op, kind in REGISTRY.items() if issubclass(kind, Activation | PReLU | Softmax)}
        return choose("activation", given, known)()
    layer = given() if isinstance(given, type) and issubclass(given, Layer) else given
    if not isinstance(layer, Layer):
        raise ArgumentError(f'activation={shown(given)}: pass a name such as "relu", or a layer such as nc.ReLU()')
    return layer


@dataclass(kw_only=True, eq=False)
class WeightLayer(Layer):
    """A layer with weights, on which ``l1`` and ``l2`` add the penalty l1·Σ|w| + l2·Σw² to the training loss.

    ``activation`` is a layer that is called on the output, or its name, such as "relu": a node of its own in the graph.
    """

    l1: float = 0.0
    l2: float = 0.0
    activation: str | Layer | type[Layer] | None = None

    def __post_init__(self) -> None:
        self.l1, self.l2 = number(self.l1, "l1", 0), number(self.l2, "l2", 0)
        bias = getattr(self, "bias", True)
        if not isinstance(bias, bool):
            size = isinstance(bias, int)
            meant = (
                "the number of inputs follows from the input" if size else f"an activation is activation={shown(bias)}"
            )
            raise ArgumentError(f"bias={shown(bias)}: pass True or False; {meant}")
        if self.activation is not None:
            self.activation = as_activation(self.activation)

    @checks_call
    def __call__(self, x: S | Sequence[S], *more: S) -> S:
        """Record this layer and its activation on a symbolic tensor."""
        y = super().__call__(x, *more)
        return self.activation(y) if isinstance(self.activation, Layer) else y

    def attributes(self) -> dict[str, Any]:
        """Return the fields of a model file; the activation is another node."""
        return {name: value for name, value in super().attributes().items() if name != "activation"}

    def forward_weights(self, kernels: Kernels, t: Bindings) -> tuple[Array, Array | None]:
        """Return the weights and the bias of forward: the parameters, or with a batch normalization folded in."""
        bias = t.arrays.get("bias")
        if t.norm is None:
            return t.weight, bias
        kernels.fold_batch_norm(t.folded_weight, t.folded_bias, t.weight, bias, t.norm)
        return t.folded_weight, t.folded_bias

    def weight_parameter(self, shape: Shape, initializer: str) -> ParameterSpec:
        """Return the specification of weights of this shape, with this layer's penalties."""
        return ParameterSpec(shape, initializer, self.l1, self.l2)
