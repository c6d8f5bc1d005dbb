"""Dense (fully connected) layers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from numbacnn._checks import whole
from numbacnn.errors import GeometryError
from numbacnn.geometry import Shape
from numbacnn.layers.algorithms import ConvAlgorithm
from numbacnn.layers.base import ParameterSpec, ScratchSpec
from numbacnn.layers.bindings import Bindings, Kernels, Sizes
from numbacnn.layers.initializers import check_initializer
from numbacnn.layers.weights import WeightLayer


@dataclass(eq=False)
class Dense(WeightLayer):
    """y = x · weight + bias. Input (features,), output (units,); ``weight`` features×units, ``bias`` units, float32.

    ``initializer``, ``l1`` and ``l2`` as in Conv2D. Raises GeometryError if the input is an image: put a Flatten
    before the layer.
    """

    op: ClassVar[str] = "dense"
    reads_x: ClassVar[bool] = True
    masks_gradient: ClassVar[bool] = True
    per_image: ClassVar[bool] = True
    fuses: ClassVar[frozenset[str]] = frozenset({"batch_norm", "relu"})

    units: int
    bias: bool = True
    initializer: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.units = whole(self.units, "units")
        check_initializer(self.initializer)

    def geometry(self, shapes: Sequence[Shape]) -> tuple[int, int]:
        """Return (features, units)."""
        if len(shapes[0]) != 1:
            raise GeometryError(f"input must be features (n,), not {shapes[0]}; put a Flatten before it")
        return shapes[0][0], self.units

    def output_shape(self, shapes: Sequence[Shape]) -> Shape:
        """Return (units,)."""
        return (self.geometry(shapes)[1],)

    def parameters(self, shapes: Sequence[Shape]) -> Mapping[str, ParameterSpec]:
        """Return ``weight`` and, unless ``bias=False``, ``bias``."""
        weight = self.weight_parameter(self.geometry(shapes), self.initializer)
        return {"weight": weight, "bias": ParameterSpec((self.units,), "zeros")} if self.bias else {"weight": weight}

    def scratch(self, sizes: Sizes, geometry: tuple[int, int], batch: int) -> Mapping[str, ScratchSpec]:
        """Return the packed weights, the packed gradients of the batch, and the partial sums of the bias gradient."""
        whole, part = sizes.dense_packed_weights_shape(*geometry), sizes.dense_packed_round_shape(*geometry)
        return {
            "packed": ScratchSpec(whole, "prepared", trained=part),
            "packed_gradient": ScratchSpec(sizes.dense_packed_gradient_shape(batch, self.units), "backward"),
            "partial_bias": ScratchSpec(sizes.partial_bias_shape(batch, 1, 1, self.units), "backward"),
        }

    def shards_at_once(
        self,
        sizes: Sizes,
        algorithms: Mapping[str, ConvAlgorithm],
        geometry: tuple[int, int],
        batch: int,
        images: Sequence[int],
    ) -> Mapping[str, int]:
        """Return the number of the device's kernels."""
        return {"weight": sizes.SHARDS_AT_ONCE, "bias": sizes.SHARDS_AT_ONCE}

    def flops(self, geometry: tuple[int, int], output_shape: Shape) -> int:
        """Count a multiply-add for each weight."""
        return 2 * geometry[0] * geometry[1]

    def forward(self, kernels: Kernels, t: Bindings, g: tuple[int, int]) -> None:
        """Compute y = x · weight + bias."""
        kernels.dense_forward(t.y, t.x, *self.forward_weights(kernels, t), t.packed, t.fused == "relu")

    def backward(self, kernels: Kernels, t: Bindings, g: tuple[int, int]) -> None:
        """Compute the gradients of weight, bias and x."""
        if "weight" not in t.frozen:
            kernels.dense_weight_gradient(t.d_weight, t.x, t.dy, t.shards)
        if self.bias and "bias" not in t.frozen:
            kernels.bias_gradient(t.d_bias, t.dy, t.partial_bias, t.shards)
        if t.dx is not None:
            kernels.dense_input_gradient(t.dx, t.dy, t.weight, t.packed_gradient, t.mask)
