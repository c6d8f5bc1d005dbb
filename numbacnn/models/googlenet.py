"""GoogLeNet (Szegedy et al. 2015, "Going deeper with convolutions", table 1) as in torchvision.

It differs from the paper in three ways: batch normalization instead of local response normalization, 3×3 convolutions
instead of 5×5 ones (an old mistake that the published weights require), and auxiliary heads that pool to 4×4.
"""

from numbacnn._checks import shown
from numbacnn.engine.graph import Tensor
from numbacnn.errors import ArgumentError
from numbacnn.layers import (
    AdaptiveAvgPool2D,
    Concat,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool2D,
    MaxPool2D,
)
from numbacnn.models.build import Network, architecture, chain, convolution, relu

EPS = 0.001  # of batch normalization

# Filters of each inception: 1×1; 1×1 and the 3×3 after it; 1×1 and the second 3×3 after it; 1×1 after the pool.
INCEPTIONS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
POOLS = {"3b": MaxPool2D(3, 2, ceil_mode=True, name="maxpool3"), "4e": MaxPool2D(2, 2, ceil_mode=True, name="maxpool4")}
HEADS = {"4a": "aux1", "4d": "aux2"}  # after which inception


@architecture((224, 224, 3), 1000)
def googlenet(
    x: Tensor, classes: int, *, auxiliary: bool = True, dropout: float = 0.2, auxiliary_dropout: float = 0.7
) -> Network:
    """GoogLeNet: 13,004,888 parameters, or 6,624,904 without its auxiliary heads, which only training runs.

    In the paper the losses of the heads have a weight of 0.3: ``loss_weights=[1, 0.3, 0.3]``. With ``auxiliary=False``
    the tensors "aux1.*" and "aux2.*" of a weights file are ignored.
    """
    if not isinstance(auxiliary, bool):
        raise ArgumentError(f"auxiliary={shown(auxiliary)}: choose True or False")
    heads: list[Tensor] = []
    x = _stem(x)
    for name, filters in INCEPTIONS.items():
        x = _inception(x, f"inception{name}", filters)
        if auxiliary and name in HEADS:
            heads.append(_head(x, HEADS[name], classes, auxiliary_dropout))
        if name in POOLS:
            x = POOLS[name](x)
    last = [GlobalAvgPool2D(name="avgpool"), Dropout(dropout, name="dropout"), Dense(classes, name="fc")]
    return Network(chain(x, last), heads, () if auxiliary else ("aux1.*", "aux2.*"))


def _basic(x: Tensor, name: str, filters: int, window: int, stride: int = 1) -> Tensor:
    """Apply convolution, batch normalization and ReLU."""
    conv = Conv2D(filters, window, stride=stride, padding=window // 2, bias=False, name=f"{name}.conv")
    return convolution(x, conv, f"{name}.bn", relu(f"{name}.relu"), EPS)


def _stem(x: Tensor) -> Tensor:
    x = MaxPool2D(3, 2, ceil_mode=True, name="maxpool1")(_basic(x, "conv1", 64, 7, 2))
    x = _basic(_basic(x, "conv2", 64, 1), "conv3", 192, 3)
    y: Tensor = MaxPool2D(3, 2, ceil_mode=True, name="maxpool2")(x)
    return y


def _inception(x: Tensor, name: str, filters: tuple[int, ...]) -> Tensor:
    """Apply four parallel branches (figure 2b)."""
    one, before_3, three, before_5, five, after_pool = filters
    pooled = MaxPool2D(3, 1, padding=1, ceil_mode=True, name=f"{name}.branch4.0")(x)
    branches = [
        _basic(x, f"{name}.branch1", one, 1),
        _basic(_basic(x, f"{name}.branch2.0", before_3, 1), f"{name}.branch2.1", three, 3),
        _basic(_basic(x, f"{name}.branch3.0", before_5, 1), f"{name}.branch3.1", five, 3),
        _basic(pooled, f"{name}.branch4.1", after_pool, 1),
    ]
    y: Tensor = Concat(name=f"{name}.concat")(branches)
    return y


def _head(x: Tensor, name: str, classes: int, dropout: float) -> Tensor:
    """Apply an auxiliary classifier, which brings gradients to the first layers (section 5)."""
    x = _basic(AdaptiveAvgPool2D((4, 4), name=f"{name}.pool")(x), f"{name}.conv", 128, 1)
    layers = [
        Flatten(name=f"{name}.flatten"),
        Dense(1024, name=f"{name}.fc1"),
        relu(f"{name}.relu"),
        Dropout(dropout, name=f"{name}.dropout"),
        Dense(classes, name=f"{name}.fc2"),
    ]
    return chain(x, layers)
