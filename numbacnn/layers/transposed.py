"""Transposed convolution."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from numbacnn._checks import pair, whole
from numbacnn.errors import ArgumentError
from numbacnn.geometry import ConvGeometry, Halo, Padding, Shape, freeze_padding, transposed_geometry
from numbacnn.layers.algorithms import ConvEpilogue
from numbacnn.layers.bindings import Bindings, Kernels
from numbacnn.layers.convolution import WindowLayer

_geometry = lru_cache(1024)(transposed_geometry)  # the many layers of a large graph have few different ones


@dataclass(eq=False)
class Conv2DTranspose(WindowLayer):
    """The transpose of a Conv2D as a linear map, for upsampling (Dumoulin and Visin 2016, chapter 4).

    Each input pixel adds its window, weighted, to the output: Y[p·stride + r·dilation − padding, …, k] +=
    X[p, …, c] · W[r, s, k, c], plus b[k]. Input (h, w, c); output (p, q, filters), where p = (h − 1)·stride − padding
    + dilation·(R − 1) + 1 + output_padding, as in PyTorch's ConvTranspose2d; "same" padding gives h·stride. ``weight``
    R×S×filters/groups×C, the layout of the Conv2D that it transposes (PyTorch's C×filters/groups×R×S, permuted by
    (2, 3, 1, 0)); ``bias`` filters. ``output_padding``, less than stride or dilation, adds rows at the bottom and
    columns at the right. Other arguments as in Conv2D. Raises ArgumentError for arguments out of range, GeometryError
    if the output would be empty.
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
        """Return the geometry of the convolution that is transposed: its input is this layer's output."""
        window, stride, dilation = self._pairs()
        extra = pair(self.output_padding, "output_padding", 0)
        padding = freeze_padding(self.padding)
        return _geometry(tuple(shapes[0]), self.filters, window, stride, padding, extra, dilation, self.groups)

    def output_of(self, geometry: ConvGeometry) -> tuple[int, int, int]:
        """Return (height, width, filters) of the output."""
        return geometry.h, geometry.w, geometry.c

    def input_halo(self, geometry: ConvGeometry) -> Halo:
        """Return the zeros around x that the flipped window reaches."""
        return geometry.gradient_halo

    def gradient_halo(self, geometry: ConvGeometry) -> Halo:
        """Return the padding that windows reach."""
        return geometry.input_halo

    def forward(self, kernels: Kernels, t: Bindings, g: ConvGeometry) -> None:
        """Compute y, the input gradient of the convolution whose output gradient is x, plus the bias."""
        scratch = t.scratch("input_gradient")
        t.algorithms["input_gradient"].input_gradient(t.y, t.x, t.weight, scratch, g, ConvEpilogue())
        kernels.add_bias_in_place(t.y, t.bias if self.bias else None, t.fused == "relu")

    def backward(self, kernels: Kernels, t: Bindings, g: ConvGeometry) -> None:
        """Compute dx by the convolution's forward pass on dy, and the weight gradient with x and dy exchanged."""
        if "weight" not in t.frozen:
            scratch = t.scratch("weight_gradient")
            t.algorithms["weight_gradient"].weight_gradient(
                t.d_weight, t.dy, t.x, scratch, g, ConvEpilogue(shards=t.shards)
            )
        if self.bias and "bias" not in t.frozen:
            kernels.bias_gradient(t.d_bias, t.dy, t.partial_bias, t.shards)
        if t.dx is not None:
            t.algorithms["forward"].forward(t.dx, t.dy, t.weight, None, t.scratch("forward"), g, ConvEpilogue())
