"""MobileNetV2 (Sandler et al. 2018, "MobileNetV2: inverted residuals and linear bottlenecks", table 2)."""

from numbacnn._checks import number
from numbacnn.engine.graph import Tensor
from numbacnn.layers import Add, Conv2D, Dense, DepthwiseConv2D, Dropout, GlobalAvgPool2D, ReLU6
from numbacnn.models.build import architecture, chain, convolution

# Expansion, filters, number of blocks, stride of the first block.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


@architecture((224, 224, 3), 1000)
def mobilenet_v2(x: Tensor, classes: int, *, width: float = 1.0, dropout: float = 0.2) -> Tensor:
    """MobileNetV2: 3,504,872 parameters with ``width`` 1, which multiplies all numbers of filters."""
    number(width, "width", 0, above=True)
    first = Conv2D(_filters(32 * width), 3, stride=2, padding=1, bias=False, name="features.0.0")
    x = convolution(x, first, "features.0.1", ReLU6(name="features.0.2"))
    strides = [
        (expansion, _filters(filters * width), 1 if i else stride)
        for expansion, filters, count, stride in STAGES
        for i in range(count)
    ]
    for index, block in enumerate(strides, 1):
        x = _block(x, f"features.{index}", *block)
    name, filters = f"features.{len(strides) + 1}", _filters(1280 * max(1.0, width))
    x = convolution(x, Conv2D(filters, 1, bias=False, name=f"{name}.0"), f"{name}.1", ReLU6(name=f"{name}.2"))
    last = [
        GlobalAvgPool2D(name="avgpool"),
        Dropout(dropout, name="classifier.0"),
        Dense(classes, name="classifier.1"),
    ]
    return chain(x, last)


def _block(x: Tensor, name: str, expansion: int, filters: int, stride: int) -> Tensor:
    """Apply an inverted residual: a 1×1 expansion, a depthwise convolution, and a linear 1×1 projection."""
    hidden, y, index = x.shape[2] * expansion, x, 0
    if expansion > 1:
        expand = Conv2D(hidden, 1, bias=False, name=f"{name}.conv.0.0")
        y, index = convolution(x, expand, f"{name}.conv.0.1", ReLU6(name=f"{name}.conv.0.2")), 1
    depthwise = DepthwiseConv2D(3, stride=stride, padding=1, bias=False, name=f"{name}.conv.{index}.0")
    y = convolution(y, depthwise, f"{name}.conv.{index}.1", ReLU6(name=f"{name}.conv.{index}.2"))
    project = Conv2D(filters, 1, bias=False, name=f"{name}.conv.{index + 1}")
    y = convolution(y, project, f"{name}.conv.{index + 2}")
    return Add(name=f"{name}.add")([x, y]) if x.shape == y.shape else y


def _filters(count: float) -> int:
    """Round to a multiple of 8, at least 8, that is not below nine tenths of ``count``."""
    rounded = max(8, int(count + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * count else rounded + 8
