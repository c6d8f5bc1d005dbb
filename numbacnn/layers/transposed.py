"""Transposed convolution."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from numbacnn._checks import pair, whole
from numbacnn.errors import ArgumentError
from numbacnn.geometry import ConvGeometry, Halo, Padding, Shape, transposed_geometry
from numbacnn.layers.algorithms import ConvEpilogue
from numbacnn.layers.base import ParameterSpec, ScratchSpec
from numbacnn.layers.bindings import Bindings, Kernels, Sizes
from numbacnn.layers.convolution import WindowLayer


@dataclass(eq=False)
class Conv2DTranspose(WindowLayer):
    """The transpose of a Conv2D, which leads from ``filters`` channels to this layer's input: it enlarges images.

    Each input pixel lays its window, weighted, over the output: Y[p·stride + r·dilation − padding, …, k] collects
    X[p, …, c] · W[r, s, k, c], plus b[k]. Input (h, w, c); output (p, q, filters), where p = (h − 1)·stride − padding
    + dilation·(R − 1) + 1 + output_padding, as in PyTorch's ConvTranspose2d; "same" padding gives h·stride. ``weight``
    R×S×filters/groups×C, which is Conv2D's layout of the convolution transposed (PyTorch's C×filters/groups×R×S,
    permuted by (2, 3, 1, 0)); ``bias`` filters. ``output_padding``, less than stride or dilation, adds rows and columns
    at the far sides. Other arguments as in Conv2D. Raises ArgumentError for arguments out of range, GeometryError where
    nothing would be left of the output. (Dumoulin and Visin 2016, "A guide to convolution arithmetic", chapter 4.)
    """

    op: ClassVar[str] = "conv2d_transpose"
    weights_read_gradient_halo: ClassVar[bool] = True
    directions: ClassVar[Mapping[str, str]] = {
        "forward": "input_gradient",
        "weight": "weight_gradient",
        "input": "forward",
    }
    algorithm: ClassVar[str] = "direct"  # type: ignore[misc]

    filters: int
    kernel_size: int | tuple[int, int]
    stride: int | tuple[int, int] = 1
    padding: Padding = "valid"
    output_padding: int | tuple[int, int] = 0
    dilation: int | tuple[int, int] = 1
    groups: int = 1
    bias: bool = True
    initializer: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.filters, self.groups = whole(self.filters, "filters"), whole(self.groups, "groups")
        self.output_padding = pair(self.output_padding, "output_padding", 0)
        _, strides, dilations = self._pairs()
        for extra, stride, dilation in zip(self.output_padding, strides, dilations, strict=True):
            if extra >= max(stride, dilation):
                raise ArgumentError(
                    f"output_padding={self.output_padding}: must be less than the stride {self.stride} "
                    f"or the dilation {self.dilation}"
                )
        if self.padding == "same" and any(self.output_padding):
            raise ArgumentError('output_padding: padding="same" gives the output its size; leave one of them out')

    def geometry(self, shapes: Sequence[Shape]) -> ConvGeometry:
        """That of the convolution transposed: its input is this layer's output."""
        window, stride, dilation = self._pairs()
        extra = pair(self.output_padding, "output_padding", 0)
        return transposed_geometry(shapes[0], self.filters, window, stride, self.padding, extra, dilation, self.groups)

    def output_shape(self, shapes: Sequence[Shape]) -> Shape:
        """(p, q, filters)."""
        g = self.geometry(shapes)
        return g.h, g.w, g.c

    def parameters(self, shapes: Sequence[Shape]) -> Mapping[str, ParameterSpec]:
        """``weight`` and, unless ``bias=False``, ``bias``."""
        g = self.geometry(shapes)
        weight = self.weight_parameter((g.r, g.s, g.c // g.groups, g.k), self.initializer)
        return {"weight": weight, "bias": ParameterSpec((g.c,), "zeros")} if self.bias else {"weight": weight}

    def scratch(self, sizes: Sizes, geometry: ConvGeometry, batch: int) -> Mapping[str, ScratchSpec]:
        """Partial sums of the bias gradient."""
        g = geometry
        return {"partial_bias": ScratchSpec(sizes.partial_bias_shape(batch, g.h, g.w, g.c), "backward")}

    def input_halo(self, geometry: ConvGeometry) -> Halo:
        """Pixels beyond the edge that the flipped window reaches."""
        return geometry.gradient_halo

    def gradient_halo(self, geometry: ConvGeometry) -> Halo:
        """The padding that windows reach."""
        return geometry.input_halo

    def flops(self, geometry: ConvGeometry, output_shape: Shape) -> int:
        """A multiply-add for each input pixel and weight it meets."""
        return geometry.flops

    def forward(self, kernels: Kernels, t: Bindings, g: ConvGeometry) -> None:
        """y is the input gradient of the convolution whose output gradient is x; plus bias."""
        scratch = t.scratch("input_gradient")
        t.algorithms["input_gradient"].input_gradient(t.y, t.x, t.weight, scratch, g, ConvEpilogue())
        kernels.add_bias_in_place(t.y, t.bias if self.bias else None, t.fused == "relu")

    def backward(self, kernels: Kernels, t: Bindings, g: ConvGeometry) -> None:
        """dx is the forward pass of the convolution on dy, and the weight gradient has x and dy exchanged."""
        if "weight" not in t.frozen:
            scratch = t.scratch("weight_gradient")
            t.algorithms["weight_gradient"].weight_gradient(t.d_weight, t.dy, t.x, scratch, g, ConvEpilogue())
        if self.bias and "bias" not in t.frozen:
            kernels.bias_gradient(t.d_bias, t.dy, t.partial_bias)
        if t.dx is not None:
            t.algorithms["forward"].forward(t.dx, t.dy, t.weight, None, t.scratch("forward"), g, ConvEpilogue())
