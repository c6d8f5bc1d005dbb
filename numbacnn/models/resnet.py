"""Residual networks for ImageNet (He et al. 2016, "Deep residual learning for image recognition", table 1), and a wide
one (Zagoruyko and Komodakis 2016, "Wide residual networks").

As in torchvision, bottlenecks have their stride in the 3×3 convolution ("v1.5"), and shortcuts that change the shape
are projections (option B).
"""

from collections.abc import Sequence
from functools import partial
from typing import Protocol

from numbacnn._checks import shown
from numbacnn.engine.graph import Tensor
from numbacnn.errors import ArgumentError
from numbacnn.layers import Add, Conv2D, Dense, GlobalAvgPool2D, MaxPool2D
from numbacnn.models.build import Architecture, architecture, convolution, relu


class Block(Protocol):
    """Applies one residual block."""

    def __call__(self, x: Tensor, name: str, filters: int, stride: int) -> Tensor:
        """Return the block's output."""


def basic_block(x: Tensor, name: str, filters: int, stride: int) -> Tensor:
    """Apply two 3×3 convolutions and a shortcut (figure 5, left)."""
    conv1 = Conv2D(filters, 3, stride=stride, padding=1, bias=False, name=f"{name}.conv1")
    conv2 = Conv2D(filters, 3, padding=1, bias=False, name=f"{name}.conv2")
    y = convolution(x, conv1, f"{name}.bn1", relu(f"{name}.relu1"))
    y = convolution(y, conv2, f"{name}.bn2")
    return _add_shortcut(x, y, name, stride)


def bottleneck(x: Tensor, name: str, filters: int, stride: int, width: int = 1) -> Tensor:
    """Apply a 1×1, a 3×3 and a 1×1 convolution and a shortcut (figure 5, right).

    The first two have ``width`` · ``filters`` filters, the last one 4 · ``filters``.
    """
    conv1 = Conv2D(width * filters, 1, bias=False, name=f"{name}.conv1")
    conv2 = Conv2D(width * filters, 3, stride=stride, padding=1, bias=False, name=f"{name}.conv2")
    conv3 = Conv2D(4 * filters, 1, bias=False, name=f"{name}.conv3")
    y = convolution(x, conv1, f"{name}.bn1", relu(f"{name}.relu1"))
    y = convolution(y, conv2, f"{name}.bn2", relu(f"{name}.relu2"))
    y = convolution(y, conv3, f"{name}.bn3")
    return _add_shortcut(x, y, name, stride)


def _add_shortcut(x: Tensor, y: Tensor, name: str, stride: int) -> Tensor:
    """Return ReLU(y + x), with x projected if its shape differs."""
    if x.shape != y.shape:
        project = Conv2D(y.shape[2], 1, stride=stride, bias=False, name=f"{name}.downsample.0")
        x = convolution(x, project, f"{name}.downsample.1")
    total: Tensor = Add(name=f"{name}.add")([y, x])
    result: Tensor = relu(f"{name}.relu")(total)
    return result


def stages(x: Tensor, block: Block, counts: Sequence[int], filters: int) -> Tensor:
    """Apply stages "layer1", "layer2", … of ``counts`` blocks; each but the first halves x and doubles the filters."""
    for stage, count in enumerate(counts):
        for i in range(count):
            stride = 2 if stage and not i else 1
            x = block(x, f"layer{stage + 1}.{i}", filters << stage, stride)
    return x


def head(x: Tensor, classes: int) -> Tensor:
    """Apply global average pooling and the dense layer "fc"."""
    y: Tensor = Dense(classes, name="fc")(GlobalAvgPool2D(name="avgpool")(x))
    return y


def _stem(x: Tensor, stem: str, filters: int) -> Tensor:
    if stem == "cifar":
        first = Conv2D(filters, 3, padding=1, bias=False, name="conv1")
        return convolution(x, first, "bn1", relu("relu"))
    if stem != "imagenet":
        raise ArgumentError(
            f'stem={shown(stem)}: choose "imagenet" (7×7, stride 2, and a pool) or "cifar" (3×3, stride 1)'
        )
    first = Conv2D(filters, 7, stride=2, padding=3, bias=False, name="conv1")
    y: Tensor = MaxPool2D(3, 2, padding=1, name="maxpool")(convolution(x, first, "bn1", relu("relu")))
    return y


def _resnet(name: str, block: Block, counts: Sequence[int], doc: str, filters: int = 64) -> Architecture:
    @architecture(
        (224, 224, 3), 1000, name=name, doc=f'{doc} ``stem="cifar"`` is for 32×32: a 3×3 convolution, no pool.'
    )
    def record(x: Tensor, classes: int, *, stem: str = "imagenet") -> Tensor:
        return head(stages(_stem(x, stem, filters), block, counts, filters), classes)

    return record


resnet18 = _resnet("resnet18", basic_block, (2, 2, 2, 2), "ResNet-18: 11,689,512 parameters.")
resnet18_small = _resnet(
    "resnet18_small",
    basic_block,
    (2, 2, 2, 2),
    "ResNet-18 with a quarter of its filters, for small sets of photographs: 831,096 parameters.",
    filters=16,
)
resnet34 = _resnet("resnet34", basic_block, (3, 4, 6, 3), "ResNet-34: 21,797,672 parameters.")
resnet50 = _resnet("resnet50", bottleneck, (3, 4, 6, 3), "ResNet-50: 25,557,032 parameters.")
resnet101 = _resnet("resnet101", bottleneck, (3, 4, 23, 3), "ResNet-101: 44,549,160 parameters.")
wide_resnet50_2 = _resnet(
    "wide_resnet50_2",
    partial(bottleneck, width=2),
    (3, 4, 6, 3),
    "ResNet-50 with 3×3 convolutions twice as wide: 68,883,240 parameters.",
)
