"""Residual networks for ImageNet (He et al. 2016, "Deep residual learning for image recognition", table 1), and a wide
one (Zagoruyko and Komodakis 2016, "Wide residual networks").

As in torchvision, bottlenecks have their stride in the 3×3 convolution ("v1.5"), and shortcuts that change the shape
are projections (option B).
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, Protocol

from numbacnn.engine.graph import Tensor
from numbacnn.errors import ArgumentError
from numbacnn.layers import Add, Conv2D, Dense, GlobalAvgPool2D, MaxPool2D
from numbacnn.model import Model
from numbacnn.models.build import Size, Weights, build, convolution, relu, variant

IMAGENET: Size = (224, 224, 3)


class Block(Protocol):
    """Records one residual block."""

    def __call__(self, x: Tensor, name: str, filters: int, stride: int) -> Tensor:
        """The block called ``name`` on ``x``."""


def basic_block(x: Tensor, name: str, filters: int, stride: int) -> Tensor:
    """Two 3×3 convolutions beside a shortcut (figure 5, left)."""
    conv1 = Conv2D(filters, 3, stride=stride, padding=1, bias=False, name=f"{name}.conv1")
    conv2 = Conv2D(filters, 3, padding=1, bias=False, name=f"{name}.conv2")
    y = convolution(x, conv1, f"{name}.bn1", relu(f"{name}.relu1"))
    y = convolution(y, conv2, f"{name}.bn2")
    return _joined(x, y, name, stride)


def bottleneck(x: Tensor, name: str, filters: int, stride: int, width: int = 1) -> Tensor:
    """A 3×3 convolution of ``width``·``filters`` between two 1×1, of which the last has 4·``filters`` (figure 5)."""
    conv1 = Conv2D(width * filters, 1, bias=False, name=f"{name}.conv1")
    conv2 = Conv2D(width * filters, 3, stride=stride, padding=1, bias=False, name=f"{name}.conv2")
    conv3 = Conv2D(4 * filters, 1, bias=False, name=f"{name}.conv3")
    y = convolution(x, conv1, f"{name}.bn1", relu(f"{name}.relu1"))
    y = convolution(y, conv2, f"{name}.bn2", relu(f"{name}.relu2"))
    y = convolution(y, conv3, f"{name}.bn3")
    return _joined(x, y, name, stride)


def _joined(x: Tensor, y: Tensor, name: str, stride: int) -> Tensor:
    """ReLU of y + x, x projected where its shape is another."""
    if x.shape != y.shape:
        project = Conv2D(y.shape[2], 1, stride=stride, bias=False, name=f"{name}.downsample.0")
        x = convolution(x, project, f"{name}.downsample.1")
    total: Tensor = Add(name=f"{name}.add")([y, x])
    joined: Tensor = relu(f"{name}.relu")(total)
    return joined


def stages(x: Tensor, block: Block, counts: Sequence[int], filters: int) -> Tensor:
    """Stages "layer1", "layer2" … of so many blocks; each after the first halves the image and doubles the filters."""
    for stage, count in enumerate(counts):
        for i in range(count):
            stride = 2 if stage and not i else 1
            x = block(x, f"layer{stage + 1}.{i}", filters << stage, stride)
    return x


def head(x: Tensor, classes: int) -> Tensor:
    """The mean of each channel, and the classes' logits "fc"."""
    y: Tensor = Dense(classes, name="fc")(GlobalAvgPool2D(name="avgpool")(x))
    return y


def _stem(x: Tensor, stem: str) -> Tensor:
    if stem == "cifar":
        first = Conv2D(64, 3, padding=1, bias=False, name="conv1")
        return convolution(x, first, "bn1", relu("relu"))
    if stem != "imagenet":
        raise ArgumentError(f'stem={stem!r}: choose "imagenet" (7×7, stride 2, and a pool) or "cifar" (3×3, stride 1)')
    first = Conv2D(64, 7, stride=2, padding=3, bias=False, name="conv1")
    y: Tensor = MaxPool2D(3, 2, padding=1, name="maxpool")(convolution(x, first, "bn1", relu("relu")))
    return y


class Form(NamedTuple):
    """The blocks of a network, and how many of them each stage has."""

    block: Block
    counts: tuple[int, ...]


def _resnet(
    form: Form,
    input_shape: Size = IMAGENET,
    classes: int = 1000,
    weights: Weights = None,
    seed: int = 0,
    device: str = "cpu",
    precision: str = "fp32",
    *,
    stem: str = "imagenet",
) -> Model:
    def record(x: Tensor) -> Tensor:
        return head(stages(_stem(x, stem), *form, 64), classes)

    return build(record, input_shape, weights, seed, device, precision)


resnet18 = variant(
    "resnet18",
    _resnet,
    Form(basic_block, (2, 2, 2, 2)),
    '18 layers: 11,689,512 parameters. ``stem="cifar"``, for images of 32×32: a 3×3 convolution, no pool.',
)
resnet34 = variant(
    "resnet34", _resnet, Form(basic_block, (3, 4, 6, 3)), "34 layers: 21,797,672 parameters. ``stem`` as in resnet18."
)
resnet50 = variant(
    "resnet50",
    _resnet,
    Form(bottleneck, (3, 4, 6, 3)),
    "50 layers of bottlenecks: 25,557,032 parameters. ``stem`` as in resnet18.",
)
resnet101 = variant(
    "resnet101",
    _resnet,
    Form(bottleneck, (3, 4, 23, 3)),
    "101 layers of bottlenecks: 44,549,160 parameters. ``stem`` as in resnet18.",
)
wide_resnet50_2 = variant(
    "wide_resnet50_2",
    _resnet,
    Form(partial(bottleneck, width=2), (3, 4, 6, 3)),
    "Resnet50 with inner convolutions twice as wide: 68,883,240 parameters. ``stem`` as in resnet18.",
)
