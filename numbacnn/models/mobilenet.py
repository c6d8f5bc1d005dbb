"""MobileNetV2 (Sandler et al. 2018, "MobileNetV2: inverted residuals and linear bottlenecks", table 2)."""

from numbacnn._checks import number
from numbacnn.engine.graph import Tensor
from numbacnn.layers import Add, Conv2D, Dense, DepthwiseConv2D, Dropout, GlobalAvgPool2D, ReLU6
from numbacnn.model import Model
from numbacnn.models.build import Size, Weights, build, chain, convolution

# Expansion, filters, number of blocks, stride of the first.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def mobilenet_v2(
    input_shape: Size = (224, 224, 3),
    classes: int = 1000,
    weights: Weights = None,
    seed: int = 0,
    device: str = "cpu",
    precision: str = "fp32",
    *,
    width: float = 1.0,
    dropout: float = 0.2,
) -> Model:
    """3,504,872 parameters at ``width`` 1, a factor of all numbers of filters."""
    number(width, "width", 0, above=True)

    def record(x: Tensor) -> Tensor:
        first = Conv2D(_filters(32 * width), 3, stride=2, padding=1, bias=False, name="features.0.0")
        x = convolution(x, first, "features.0.1", ReLU6(name="features.0.2"))
        place = 1
        for expansion, filters, count, stride in STAGES:
            for i in range(count):
                x = _block(x, f"features.{place}", expansion, _filters(filters * width), 1 if i else stride)
                place += 1
        name, filters = f"features.{place}", _filters(1280 * max(1.0, width))
        x = convolution(x, Conv2D(filters, 1, bias=False, name=f"{name}.0"), f"{name}.1", ReLU6(name=f"{name}.2"))
        last = [
            GlobalAvgPool2D(name="avgpool"),
            Dropout(dropout, name="classifier.0"),
            Dense(classes, name="classifier.1"),
        ]
        return chain(x, last)

    return build(record, input_shape, weights, seed, device, precision)


def _block(x: Tensor, name: str, expansion: int, filters: int, stride: int) -> Tensor:
    """An inverted residual: widened by 1×1, filtered channel by channel, and projected without an activation."""
    hidden, y, place = x.shape[2] * expansion, x, 0
    if expansion > 1:
        widen = Conv2D(hidden, 1, bias=False, name=f"{name}.conv.0.0")
        y, place = convolution(x, widen, f"{name}.conv.0.1", ReLU6(name=f"{name}.conv.0.2")), 1
    each = DepthwiseConv2D(3, stride=stride, padding=1, bias=False, name=f"{name}.conv.{place}.0")
    y = convolution(y, each, f"{name}.conv.{place}.1", ReLU6(name=f"{name}.conv.{place}.2"))
    project = Conv2D(filters, 1, bias=False, name=f"{name}.conv.{place + 1}")
    y = convolution(y, project, f"{name}.conv.{place + 2}")
    return Add(name=f"{name}.add")([x, y]) if x.shape == y.shape else y


def _filters(wanted: float) -> int:
    """The nearest multiple of 8, at least 8 and nine tenths of what is wanted."""
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * wanted else rounded + 8
