"""Layers that normalise: by the batch, by groups of channels, by neighbouring channels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from types import SimpleNamespace
from typing import Any, ClassVar

from numbacnn.errors import ArgumentError
from numbacnn.geometry import Shape, number
from numbacnn.layers.base import Layer, Parameter, Scratch


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
    fuses: ClassVar[tuple[str, ...]] = ("relu",)

    momentum: float = 0.1
    eps: float = 1e-5

    def __post_init__(self) -> None:
        self.momentum = number(self.momentum, "momentum", 0, 1)
        self.eps = number(self.eps, "eps", 0)

    def geometry(self, shapes: Sequence[Shape]) -> tuple[int, int, int]:
        """(h, w, c)."""
        return _as_image(shapes[0])

    def parameters(self, shapes: Sequence[Shape]) -> Mapping[str, Parameter]:
        """``weight`` and ``bias``."""
        return _weight_and_bias(shapes[0])

    def state(self, shapes: Sequence[Shape]) -> Mapping[str, Parameter]:
        """``running_mean`` and ``running_var``."""
        c = shapes[0][-1:]
        return {"running_mean": Parameter(c, "zeros"), "running_var": Parameter(c, "ones")}

    def check_training(self, geometry: tuple[int, int, int], batch: int) -> None:
        """One value for each channel has no variance."""
        h, w, _ = geometry
        if batch * h * w == 1:
            raise ArgumentError("1 image of 1×1 pixels has no variance; train on batches of at least 2 images")

    def scratch(self, sizes: Any, geometry: tuple[int, int, int], batch: int) -> Mapping[str, Scratch]:
        """Statistics, partial sums, and the numbers that each channel is multiplied by."""
        h, w, c = geometry
        return {
            "statistics": Scratch(sizes.batch_norm_pattern_shape(c), "saved"),
            "pattern": Scratch(sizes.batch_norm_pattern_shape(c), "forward"),
            "partial": Scratch(sizes.batch_norm_partial_shape(batch, h, w, c), "forward"),
            "pattern_gradient": Scratch(sizes.batch_norm_gradient_shape(c), "backward"),
            "partial_gradient": Scratch(sizes.batch_norm_partial_gradient_shape(batch, h, w, c), "backward"),
        }

    def flops(self, geometry: tuple[int, int, int], output_shape: Shape) -> int:
        """Two for each element: in inference, one multiply-add."""
        return 2 * prod(output_shape)

    def forward(self, kernels: Any, t: SimpleNamespace, g: tuple[int, int, int]) -> None:
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

    def backward(self, kernels: Any, t: SimpleNamespace, g: tuple[int, int, int]) -> None:
        """The gradients of weight, bias and x."""
        scratch = t.statistics, t.pattern_gradient, t.partial_gradient
        kernels.batch_norm_gradient(t.dx, t.d_weight, t.d_bias, t.dy, t.x, t.weight, *scratch, t.training)


def _as_image(shape: Shape) -> tuple[int, int, int]:
    """Features (c,) are images of one pixel."""
    return (1, 1, shape[0]) if len(shape) == 1 else (shape[0], shape[1], shape[2])


def _weight_and_bias(shape: Shape) -> Mapping[str, Parameter]:
    return {"weight": Parameter(shape[-1:], "ones"), "bias": Parameter(shape[-1:], "zeros")}
