"""Every op as a function of float32 arrays that returns a new one, for experiments and tests.

Images are (n, h, w, c), features (n, c); convolution weights (r, s, c/groups, k), dense weights (in, out). Arguments
and errors are those of the layer of the same name. Every call makes a new plan: for speed, build a model.
"""

from collections.abc import Iterable, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numbacnn import layers
from numbacnn._checks import shown, whole
from numbacnn._checks.arrays import real_array
from numbacnn._checks.names import checks_arguments
from numbacnn.engine.device import get_device
from numbacnn.engine.graph import Graph, Input, Tensor
from numbacnn.engine.network import Network
from numbacnn.errors import ArgumentError
from numbacnn.geometry import Padding

Float32 = NDArray[np.float32]
Pair = int | tuple[int, int]


def conv2d(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None = None,
    stride: Pair = 1,
    padding: Padding = "valid",
    dilation: Pair = 1,
    groups: int = 1,
    algorithm: str = "auto",
) -> Float32:
    """Cross-correlate (n, h, w, c) with (r, s, c/groups, k) and add b (k,)."""
    weight = real_array(w, "w")
    if weight.ndim != 4:
        raise ArgumentError(f"conv2d weights have shape {weight.shape}; pass (r, s, c/groups, k)")
    r, s, _, k = weight.shape
    layer = layers.Conv2D(k, (r, s), stride, padding, dilation, groups, bias=b is not None, algorithm=algorithm)
    return _apply(layer, [x], _given(weight=w, bias=b))


def depthwise_conv2d(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None = None,
    stride: Pair = 1,
    padding: Padding = "valid",
    dilation: Pair = 1,
) -> Float32:
    """Cross-correlate each channel of (n, h, w, c) with its filters in (r, s, 1, c·depth_multiplier) and add b."""
    weight, channels = real_array(w, "w"), (0, *real_array(x, "x").shape)[-1]
    if weight.ndim != 4 or weight.shape[2] != 1 or not channels or weight.shape[3] % channels:
        raise ArgumentError(
            f"depthwise_conv2d weights have shape {weight.shape}; pass (r, s, 1, {channels}·depth_multiplier)"
        )
    r, s, _, k = weight.shape
    layer = layers.DepthwiseConv2D((r, s), k // channels, stride, padding, dilation, bias=b is not None)
    return _apply(layer, [x], _given(weight=w, bias=b))


def conv2d_transpose(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None = None,
    stride: Pair = 1,
    padding: Padding = "valid",
    output_padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Float32:
    """Apply the transpose of a convolution, with weights (r, s, k/groups, c), to (n, h, w, c) and add b (k,)."""
    weight = real_array(w, "w")
    if weight.ndim != 4:
        raise ArgumentError(f"conv2d_transpose weights have shape {weight.shape}; pass (r, s, k/groups, c)")
    r, s, k, _ = weight.shape
    filters = k * whole(groups, "groups")
    layer = layers.Conv2DTranspose(
        filters, (r, s), stride, padding, output_padding, dilation, groups, bias=b is not None
    )
    return _apply(layer, [x], _given(weight=w, bias=b))


def dense(x: ArrayLike, w: ArrayLike, b: ArrayLike | None = None) -> Float32:
    """Return (n, in) · (in, out) + b (out,)."""
    weight = real_array(w, "w")
    if weight.ndim != 2:
        raise ArgumentError(f"dense weights have shape {weight.shape}; pass (in, out)")
    return _apply(layers.Dense(weight.shape[1], bias=b is not None), [x], _given(weight=w, bias=b))


def batch_norm(
    x: ArrayLike,
    mean: ArrayLike,
    variance: ArrayLike,
    w: ArrayLike | None = None,
    b: ArrayLike | None = None,
    eps: float = 1e-5,
) -> Float32:
    """Return (x − mean) / √(variance + eps) · w + b for each channel, as in inference; all of them (c,)."""
    running = {"running_mean": real_array(mean, "mean"), "running_var": real_array(variance, "variance")}
    return _apply(layers.BatchNorm(eps=eps), [x], _affine(x, w, b) | running)


def group_norm(
    x: ArrayLike, groups: int, w: ArrayLike | None = None, b: ArrayLike | None = None, eps: float = 1e-5
) -> Float32:
    """Normalize over each image's pixels and the channels of a group, scale by w (c,) and add b (c,)."""
    return _apply(layers.GroupNorm(groups, eps), [x], _affine(x, w, b))


def local_response_norm(
    x: ArrayLike, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Float32:
    """Return x[c] / (k + alpha/size · Σ x²)^beta, summed over ``size`` neighboring channels."""
    return _apply(layers.LocalResponseNorm(size, alpha, beta, k), [x])


def dropout(x: ArrayLike, rate: float = 0.5, seed: int = 0) -> Float32:
    """Zero each element with probability ``rate``, and divide the others by 1 − rate."""
    return _apply(layers.Dropout(rate), [x], seed=whole(seed, "seed", 0))


def spatial_dropout(x: ArrayLike, rate: float = 0.5, seed: int = 0) -> Float32:
    """Zero each channel of each image with probability ``rate``, and divide the others by 1 − rate."""
    return _apply(layers.SpatialDropout(rate), [x], seed=whole(seed, "seed", 0))


def max_pool2d(
    x: ArrayLike, pool_size: Pair = 2, stride: Pair | None = None, padding: Padding = "valid", ceil_mode: bool = False
) -> Float32:
    """Return the largest value of each window."""
    return _apply(layers.MaxPool2D(pool_size, stride, padding, ceil_mode), [x])


def avg_pool2d(
    x: ArrayLike,
    pool_size: Pair = 2,
    stride: Pair | None = None,
    padding: Padding = "valid",
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Float32:
    """Return the mean of each window."""
    return _apply(layers.AvgPool2D(pool_size, stride, padding, ceil_mode, count_include_pad), [x])


def global_max_pool2d(x: ArrayLike, keepdims: bool = False) -> Float32:
    """Return the largest value of each channel."""
    return _apply(layers.GlobalMaxPool2D(keepdims), [x])


def global_avg_pool2d(x: ArrayLike, keepdims: bool = False) -> Float32:
    """Return the mean of each channel."""
    return _apply(layers.GlobalAvgPool2D(keepdims), [x])


def adaptive_max_pool2d(x: ArrayLike, output_size: Pair) -> Float32:
    """Return the largest value of each of output_size bins."""
    return _apply(layers.AdaptiveMaxPool2D(output_size), [x])


def adaptive_avg_pool2d(x: ArrayLike, output_size: Pair) -> Float32:
    """Return the mean of each of output_size bins."""
    return _apply(layers.AdaptiveAvgPool2D(output_size), [x])


def upsample2d(x: ArrayLike, factor: Pair = 2, mode: str = "nearest") -> Float32:
    """Enlarge images by integer factors, by "nearest" or "bilinear" interpolation."""
    return _apply(layers.Upsample2D(factor, mode), [x])


def zero_pad2d(x: ArrayLike, padding: Padding = 1) -> Float32:
    """Pad images with zeros."""
    return _apply(layers.ZeroPad2D(padding), [x])


def slice(
    x: ArrayLike,
    rows: tuple[int, int] | None = None,
    columns: tuple[int, int] | None = None,
    channels: tuple[int, int] | None = None,
) -> Float32:
    """Return rows, columns and channels of images, each (first, end)."""
    return _apply(layers.Slice(rows, columns, channels), [x])


def relu(x: ArrayLike) -> Float32:
    """Return max(x, 0)."""
    return _apply(layers.ReLU(), [x])


def relu6(x: ArrayLike) -> Float32:
    """Return min(max(x, 0), 6)."""
    return _apply(layers.ReLU6(), [x])


def leaky_relu(x: ArrayLike, slope: float = 0.01) -> Float32:
    """Return x if x ≥ 0, else slope · x."""
    return _apply(layers.LeakyReLU(slope), [x])


def prelu(x: ArrayLike, w: ArrayLike) -> Float32:
    """Return x if x > 0, else w (c,) · x."""
    return _apply(layers.PReLU(), [x], _given(weight=w))


def elu(x: ArrayLike, alpha: float = 1.0) -> Float32:
    """Return x if x > 0, else alpha · (eˣ − 1)."""
    return _apply(layers.ELU(alpha), [x])


def gelu(x: ArrayLike, approximate: str = "none") -> Float32:
    """Return x · Φ(x), where Φ is the standard normal distribution, or its approximation by "tanh"."""
    return _apply(layers.GELU(approximate), [x])


def silu(x: ArrayLike) -> Float32:
    """Return x / (1 + e⁻ˣ)."""
    return _apply(layers.SiLU(), [x])


def hardswish(x: ArrayLike) -> Float32:
    """Return x · min(max(x + 3, 0), 6) / 6."""
    return _apply(layers.Hardswish(), [x])


def hardsigmoid(x: ArrayLike) -> Float32:
    """Return min(max(x + 3, 0), 6) / 6."""
    return _apply(layers.Hardsigmoid(), [x])


def tanh(x: ArrayLike) -> Float32:
    """Return the hyperbolic tangent."""
    return _apply(layers.Tanh(), [x])


def sigmoid(x: ArrayLike) -> Float32:
    """Return 1 / (1 + e⁻ˣ)."""
    return _apply(layers.Sigmoid(), [x])


def log_softmax(x: ArrayLike) -> Float32:
    """Return the logarithm of the softmax over the last axis."""
    return _apply(layers.LogSoftmax(), [x])


def elementwise(x: ArrayLike, function: str) -> Float32:
    """Apply a function that is named, such as "sqrt", to each element."""
    return _apply(layers.Elementwise(function), [x])


def clip(x: ArrayLike, low: float | None = None, high: float | None = None) -> Float32:
    """Return x between two bounds."""
    return _apply(layers.Clip(low, high), [x])


def power(x: ArrayLike, exponent: float) -> Float32:
    """Return x to the power ``exponent``."""
    return _apply(layers.Power(exponent), [x])


def maximum(xs: Sequence[ArrayLike]) -> Float32:
    """Return the larger of two arrays, element by element."""
    return _apply(layers.Maximum(), xs)


def minimum(xs: Sequence[ArrayLike]) -> Float32:
    """Return the smaller of two arrays, element by element."""
    return _apply(layers.Minimum(), xs)


def resize2d(
    x: ArrayLike,
    size: Pair,
    mode: str = "bilinear",
    coordinates: str = "half_pixel",
    scale: tuple[float, float] | None = None,
    rounding: str = "round_prefer_floor",
    region: tuple[float, float, float, float] | None = None,
) -> Float32:
    """Resize images (n, h, w, c), or a region of them, to (n, *size, c)."""
    return _apply(layers.Resize2D(size, mode, coordinates, scale, rounding, region), [x])


def softmax(x: ArrayLike) -> Float32:
    """Return the softmax over the last axis."""
    return _apply(layers.Softmax(), [x])


def flatten(x: ArrayLike) -> Float32:
    """Reshape (n, h, w, c) to (n, h·w·c)."""
    return _apply(layers.Flatten(), [x])


def reshape(x: ArrayLike, shape: tuple[int, ...]) -> Float32:
    """Reshape images or features (n, …) to (n, *shape); one size of shape may be −1."""
    return _apply(layers.Reshape(shape), [x])


def add(xs: Sequence[ArrayLike]) -> Float32:
    """Return the sum of two or more arrays of the same shape."""
    return _apply(layers.Add(), xs)


def concat(xs: Sequence[ArrayLike]) -> Float32:
    """Concatenate the channels of two or more arrays."""
    return _apply(layers.Concat(), xs)


def multiply(xs: Sequence[ArrayLike]) -> Float32:
    """Return the product of two arrays of one shape, or of images (n, h, w, c) and a gate (n, 1, 1, c) or (n, c)."""
    return _apply(layers.Multiply(), xs)


def _affine(x: ArrayLike, w: ArrayLike | None, b: ArrayLike | None) -> dict[str, NDArray[Any]]:
    c = real_array(x, "x").shape[-1:]
    return {"weight": np.ones(c), "bias": np.zeros(c)} | _given(weight=w, bias=b)


def _given(**arrays: ArrayLike | None) -> dict[str, NDArray[Any]]:
    return {name: real_array(array, name) for name, array in arrays.items() if array is not None}


def _apply(
    layer: layers.Layer,
    xs: Sequence[ArrayLike],
    parameters: dict[str, NDArray[Any]] | None = None,
    seed: int | None = None,
) -> Float32:
    """Run one layer on arrays of a batch; with a seed as in training, in which some layers draw random numbers."""
    if isinstance(xs, str | bytes) or not isinstance(xs, Iterable):
        raise ArgumentError(f"xs={shown(xs)}: pass a list of arrays")
    xs = list(xs)
    if any(isinstance(x, Tensor) for x in xs) and not parameters:
        return cast(Float32, layer(cast(list[Tensor], xs)))  # recorded in a graph
    layer.name = "op"
    arrays = [np.asarray(real_array(x, f"input {i + 1}"), np.float32) for i, x in enumerate(xs)]
    counts = {len(array) if array.ndim > 1 else 0 for array in arrays}
    if len(counts) != 1 or 0 in counts:
        raise ArgumentError(
            f"inputs of shapes {[array.shape for array in arrays]}: pass the same number of images, not 0"
        )
    inputs = [Input(array.shape[1:]) for array in arrays]
    network = Network(Graph(inputs, [layer(inputs)]), get_device("cpu"), several_inputs=True, several_outputs=False)
    network.store.set_random(seed or 0, 0)
    network.set_parameters({f"op.{name}": array for name, array in (parameters or {}).items()})
    y: Float32 = network.forward(arrays, training=seed is not None)
    return y


for _name, _function in list(globals().items()):
    if getattr(_function, "__module__", None) == __name__ and not _name.startswith("_"):
        globals()[_name] = checks_arguments(_function)
