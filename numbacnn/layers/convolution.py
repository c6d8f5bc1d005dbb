"""Convolution."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from numbacnn._checks import one_of, pair, whole
from numbacnn.errors import GeometryError
from numbacnn.geometry import (
    MAX_STRIDE,
    ConvGeometry,
    Halo,
    Padding,
    PoolGeometry,
    Shape,
    conv_geometry,
    freeze_padding,
    image_shape,
)
from numbacnn.layers.algorithms import DIRECT, ConvAlgorithm, ConvEpilogue, FusedConv, choose
from numbacnn.layers.base import ParameterSpec, ScratchSpec
from numbacnn.layers.bindings import Bindings, Kernels, Sizes
from numbacnn.layers.initializers import check_initializer
from numbacnn.layers.weights import WeightLayer

MODEL_ALGORITHMS = ("auto", "latency", "direct")  # for all convolutions of a model
ALGORITHMS = (*MODEL_ALGORITHMS, "winograd2", "winograd4")

_geometry = lru_cache(1024)(conv_geometry)  # the many layers of a large graph have few different ones


@lru_cache(1024)
def _chosen(
    known: tuple[ConvAlgorithm, ...],
    directions: tuple[str, ...],
    g: ConvGeometry,
    family: str,
    pool: PoolGeometry | None,
    exact: bool,
) -> Mapping[str, ConvAlgorithm]:
    """Return the preferred of the ``known`` algorithms for each direction, with the arguments of ``choose``.

    ``exact`` leaves out those that spread NaN and infinity.
    """
    able = [algorithm for algorithm in known if not (exact and algorithm.spreads(g))]
    chosen = {direction: choose(able, direction, g, family, pool) for direction in directions}
    return {direction: algorithm for direction, algorithm in chosen.items() if algorithm is not None}


class WindowLayer(WeightLayer):
    """The base of convolutions and transposed convolutions: the window's fields, parameters and scratch."""

    reads_x: ClassVar[bool] = True
    per_image: ClassVar[bool] = True
    fuses: ClassVar[frozenset[str]] = frozenset({"relu"})

    directions: ClassVar[Mapping[str, str]]  # of the convolution, by what the layer computes
    algorithm: str
    kernel_size: int | tuple[int, int]
    stride: int | tuple[int, int]
    padding: Padding
    dilation: int | tuple[int, int]
    bias: bool
    initializer: str

    def __post_init__(self) -> None:
        super().__post_init__()
        self.kernel_size, self.stride, self.dilation = self._pairs()
        self.padding = freeze_padding(self.padding)
        check_initializer(self.initializer)

    def output_of(self, geometry: ConvGeometry) -> tuple[int, int, int]:
        """Return (height, width, filters) of the output."""
        return geometry.p, geometry.q, geometry.k

    def output_shape(self, shapes: Sequence[Shape]) -> Shape:
        """Return (p, q, filters)."""
        return self.output_of(self.geometry(shapes))

    def parameters(self, shapes: Sequence[Shape]) -> Mapping[str, ParameterSpec]:
        """Return ``weight`` and, unless ``bias=False``, ``bias``."""
        g = self.geometry(shapes)
        weight = self.weight_parameter((g.r, g.s, g.c // g.groups, g.k), self.initializer)
        bias = ParameterSpec(self.output_of(g)[2:], "zeros")
        return {"weight": weight, "bias": bias} if self.bias else {"weight": weight}

    def scratch(self, sizes: Sizes, geometry: ConvGeometry, batch: int) -> Mapping[str, ScratchSpec]:
        """Return the partial sums of the bias gradient."""
        return {"partial_bias": ScratchSpec(sizes.partial_bias_shape(batch, *self.output_of(geometry)), "backward")}

    def flops(self, geometry: ConvGeometry, output_shape: Shape) -> int:
        """Count a multiply-add for each weight and pixel that it multiplies, as the direct algorithm computes them."""
        return geometry.flops

    @property
    def exact(self) -> bool:
        """Whether only algorithms may run in which NaN and infinity reach only the windows that see them."""
        return False

    def algorithms(
        self, sizes: Sizes, geometry: ConvGeometry, parts: Collection[str], pool: PoolGeometry | None = None
    ) -> Mapping[str, ConvAlgorithm]:
        """Return the device's preferred algorithm for each direction; with ``pool``, only those that compute it too."""
        directions = tuple([self.directions[part] for part in parts])
        return _chosen(sizes.CONV_ALGORITHMS, directions, geometry, self.algorithm, pool, self.exact)

    def shards_at_once(
        self,
        sizes: Sizes,
        algorithms: Mapping[str, ConvAlgorithm],
        geometry: ConvGeometry,
        batch: int,
        images: Sequence[int],
    ) -> Mapping[str, int]:
        """Return the numbers of the algorithm of the weight gradient, and of the bias gradient's kernels."""
        chosen, bias = algorithms.get(self.directions["weight"]), {"bias": sizes.SHARDS_AT_ONCE}
        return bias if chosen is None else bias | {"weight": chosen.shards_at_once(geometry, batch, images)}

    def _pairs(self) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        """Return window, stride and dilation, each (height, width)."""
        stride = pair(self.stride, "stride", maximum=MAX_STRIDE)
        return pair(self.kernel_size, "kernel_size"), stride, pair(self.dilation, "dilation")


class _Convolution(WindowLayer):
    """The base of convolutions. Subclasses define the geometry."""

    directions: ClassVar[Mapping[str, str]] = {
        "forward": "forward",
        "weight": "weight_gradient",
        "input": "input_gradient",
    }
    masks_gradient: ClassVar[bool] = True
    fuses: ClassVar[frozenset[str]] = frozenset({"batch_norm", "add", "relu"})

    algorithm: str = "auto"

    @property
    def exact(self) -> bool:
        """Whether the direct sum is forced."""
        return self.algorithm == DIRECT

    def fused_activations(self, sizes: Sizes, geometry: ConvGeometry) -> frozenset[str]:
        """Return the activations of the forward algorithm."""
        return self.algorithms(sizes, geometry, ["forward"])["forward"].activations

    def fuses_pool(self, sizes: Sizes, geometry: ConvGeometry, pool: PoolGeometry) -> bool:
        """Return whether a direct algorithm runs, and one of them also computes the pool."""
        (alone,) = self.algorithms(sizes, geometry, ["forward"]).values()
        return alone.family == DIRECT and bool(self.algorithms(sizes, geometry, ["forward"], pool))

    def accepts_pool_gradient(self, sizes: Sizes, geometry: ConvGeometry, pool: PoolGeometry) -> bool:
        """Return whether an algorithm computes weight and input gradients from the gradient of the pool's output."""
        return bool(self.algorithms(sizes, geometry, ["weight", "input"], pool))

    def pool_gradient_scratch(
        self, sizes: Sizes, geometry: ConvGeometry, pool: PoolGeometry, batch: int
    ) -> Mapping[str, ScratchSpec]:
        """Return the partial sums of the bias gradient."""
        return {"partial_bias": ScratchSpec(sizes.partial_bias_shape(batch, pool.p, pool.q, pool.c), "backward")}

    def input_halo(self, geometry: ConvGeometry) -> Halo:
        """Return the padding that windows reach."""
        return geometry.input_halo

    def gradient_halo(self, geometry: ConvGeometry) -> Halo:
        """Return the zeros around dy that the flipped window reaches."""
        return geometry.gradient_halo

    def forward(self, kernels: Kernels, t: Bindings, g: ConvGeometry) -> None:
        """Compute y = x * weight + bias, then the fused operations."""
        weight, bias = self.forward_weights(kernels, t)
        then = tuple([layer.as_fused(kernels, part, geometry) for layer, part, geometry in t.then])
        epilogue = ConvEpilogue(t.fused, t.residual, pool=t.pool, argmax=t.arrays.get("argmax"), then=then)
        t.algorithms["forward"].forward(t.y, t.x, weight, bias, t.scratch("forward"), g, epilogue)

    def as_fused(self, kernels: Kernels, t: Bindings, g: ConvGeometry) -> FusedConv:
        """Return this convolution for a step of one before it, which computes both."""
        return FusedConv(*self.forward_weights(kernels, t), g, t.fused, t.residual)

    def backward(self, kernels: Kernels, t: Bindings, g: ConvGeometry) -> None:
        """Compute the gradients of weight, bias and x."""
        epilogue = ConvEpilogue(mask=t.mask, pool=t.pool, argmax=t.arrays.get("argmax"), shards=t.shards)
        if self.bias and "bias" not in t.frozen:
            kernels.bias_gradient(t.d_bias, t.dy, t.partial_bias, t.shards)
        if "weight" not in t.frozen:
            scratch = t.scratch("weight_gradient")
            t.algorithms["weight_gradient"].weight_gradient(t.d_weight, t.x, t.dy, scratch, g, epilogue)
        if t.dx is not None:
            scratch = t.scratch("input_gradient")
            t.algorithms["input_gradient"].input_gradient(t.dx, t.dy, t.weight, scratch, g, epilogue)


@dataclass(eq=False)
class Conv2D(_Convolution):
    """Cross-correlation with ``filters`` windows: Y[p,q,k] = b[k] + Σ X[p·stride + r·dilation, …, c] · W[r,s,c,k].

    Input (h, w, c), output (p, q, filters); ``weight`` R×S×C/groups×K, ``bias`` K, float32. ``kernel_size``,
    ``stride`` and ``dilation`` are one integer or (height, width); ``padding`` is "valid", "same", an integer,
    (height, width) or ((top, bottom), (left, right)). ``initializer`` is a name from ``layers.initializers``; "auto"
    uses He normal before a ReLU-like activation, Glorot uniform elsewhere. ``algorithm`` "auto" chooses the fastest
    for batches, "latency" for one image at a time, where reading weights can take longer than computing; both may
    spread NaN and infinity to neighbors of the pixels that see them. "direct", the sum as above, does not;
    "winograd2" and "winograd4" (Winograd's, with tiles of 2×2 or 4×4 outputs) force one. ``l1`` and ``l2``
    penalize the weights in training, but not the bias. Raises ArgumentError for arguments out of range, and
    GeometryError if the window, groups or algorithm do not fit the input.
    """

    op: ClassVar[str] = "conv2d"

    filters: int
    kernel_size: int | tuple[int, int]
    stride: int | tuple[int, int] = 1
    padding: Padding = "valid"
    dilation: int | tuple[int, int] = 1
    groups: int = 1
    bias: bool = True
    initializer: str = "auto"
    algorithm: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.filters, self.groups = whole(self.filters, "filters"), whole(self.groups, "groups")
        one_of(self.algorithm, "algorithm", ALGORITHMS)

    def geometry(self, shapes: Sequence[Shape]) -> ConvGeometry:
        """Return sizes, strides and padding of this convolution over images of ``shapes[0]``."""
        window, stride, dilation = self._pairs()
        padding = freeze_padding(self.padding)
        g = _geometry(tuple(shapes[0]), self.filters, window, stride, padding, dilation, self.groups)
        if self.algorithm.startswith("winograd") and int(self.algorithm[-1]) not in g.winograd_tiles:
            windows = "3×3 windows" if self.algorithm == "winograd4" else "3×3 and 5×5 windows"
            raise GeometryError(
                f'algorithm="{self.algorithm}" is for {windows} with stride, dilation and groups of 1, '
                f"not {g.r}×{g.s} with {stride}, {dilation} and {g.groups}"
            )
        return g


@dataclass(eq=False)
class DepthwiseConv2D(_Convolution):
    """Cross-correlation of each channel with its own ``depth_multiplier`` windows (Howard et al. 2017, section 3.1).

    Y[…, c·depth_multiplier + j] depends only on channel c of X: a Conv2D with groups = c, which need not be given.
    Input (h, w, c), output (p, q, c·depth_multiplier); ``weight`` R×S×1×C·depth_multiplier, ``bias``
    C·depth_multiplier; the other arguments and errors as in Conv2D.
    """

    op: ClassVar[str] = "depthwise_conv2d"

    kernel_size: int | tuple[int, int]
    depth_multiplier: int = 1
    stride: int | tuple[int, int] = 1
    padding: Padding = "valid"
    dilation: int | tuple[int, int] = 1
    bias: bool = True
    initializer: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.depth_multiplier = whole(self.depth_multiplier, "depth_multiplier")

    def geometry(self, shapes: Sequence[Shape]) -> ConvGeometry:
        """Return the geometry of a convolution with a group for each channel."""
        window, stride, dilation = self._pairs()
        channels = image_shape(shapes[0])[2]
        filters = channels * self.depth_multiplier
        padding = freeze_padding(self.padding)
        return _geometry(tuple(shapes[0]), filters, window, stride, padding, dilation, channels)
