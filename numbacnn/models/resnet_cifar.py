"""Residual networks for CIFAR's images of 32×32.

ResNet-20, -32 and -56 of He et al. 2016, "Deep residual learning for image recognition", section 4.2, with projections
where the shape changes (option B). The paper's own shortcuts there (option A: every other pixel, and zeros for the new
channels) have no parameters: 2,752 fewer, 269,722 instead of 272,474 for ResNet-20.

Wide ones of Zagoruyko and Komodakis 2016, "Wide residual networks", table 1: normalisation and ReLU come before each
convolution, and a shortcut that changes the shape is a 1×1 convolution behind the first of them.
"""

from typing import NamedTuple

from numbacnn.engine.graph import Tensor
from numbacnn.layers import Add, BatchNorm, Conv2D, Dropout
from numbacnn.model import Model
from numbacnn.models.build import Size, Weights, build, convolution, relu, variant
from numbacnn.models.resnet import basic_block, head, stages

CIFAR: Size = (32, 32, 3)


def _resnet(
    depth: int,
    input_shape: Size = CIFAR,
    classes: int = 10,
    weights: Weights = None,
    seed: int = 0,
    device: str = "cpu",
    precision: str = "fp32",
) -> Model:
    """Three stages of (depth − 2) / 6 blocks."""

    def record(x: Tensor) -> Tensor:
        x = convolution(x, Conv2D(16, 3, padding=1, bias=False, name="conv1"), "bn1", relu("relu"))
        return head(stages(x, basic_block, 3 * [(depth - 2) // 6], 16), classes)

    return build(record, input_shape, weights, seed, device, precision)


class WideForm(NamedTuple):
    """How many layers a wide network has, and how many times as many filters."""

    depth: int
    width: int


def _wide_resnet(
    form: WideForm,
    input_shape: Size = CIFAR,
    classes: int = 10,
    weights: Weights = None,
    seed: int = 0,
    device: str = "cpu",
    precision: str = "fp32",
    *,
    dropout: float = 0.0,
) -> Model:
    """Three stages of (depth − 4) / 6 blocks."""
    depth, width = form

    def block(x: Tensor, name: str, filters: int, stride: int) -> Tensor:
        return _wide_block(x, name, filters, stride, dropout)

    def record(x: Tensor) -> Tensor:
        x = stages(Conv2D(16, 3, padding=1, bias=False, name="conv1")(x), block, 3 * [(depth - 4) // 6], 16 * width)
        return head(relu("relu")(BatchNorm(name="bn1")(x)), classes)

    return build(record, input_shape, weights, seed, device, precision)


def _wide_block(x: Tensor, name: str, filters: int, stride: int, dropout: float) -> Tensor:
    before = relu(f"{name}.relu1")(BatchNorm(name=f"{name}.bn1")(x))
    first = Conv2D(filters, 3, stride=stride, padding=1, bias=False, name=f"{name}.conv1")
    y = convolution(before, first, f"{name}.bn2", relu(f"{name}.relu2"))
    if dropout:
        y = Dropout(dropout, name=f"{name}.dropout")(y)
    y = Conv2D(filters, 3, padding=1, bias=False, name=f"{name}.conv2")(y)
    if x.shape != y.shape:
        x = Conv2D(filters, 1, stride=stride, bias=False, name=f"{name}.shortcut")(before)
    total: Tensor = Add(name=f"{name}.add")([y, x])
    return total


resnet20 = variant("resnet20", _resnet, 20, "20 layers of 16, 32 and 64 filters: 272,474 parameters.")
resnet32 = variant("resnet32", _resnet, 32, "32 layers of 16, 32 and 64 filters: 466,906 parameters.")
resnet56 = variant("resnet56", _resnet, 56, "56 layers of 16, 32 and 64 filters: 855,770 parameters.")
wide_resnet16_4 = variant(
    "wide_resnet16_4",
    _wide_resnet,
    WideForm(16, 4),
    "WRN-16-4: 2,748,890 parameters. ``dropout`` acts between the convolutions of each block.",
)
wide_resnet28_10 = variant(
    "wide_resnet28_10",
    _wide_resnet,
    WideForm(28, 10),
    "WRN-28-10: 36,479,194 parameters. ``dropout`` acts between the convolutions of each block.",
)
