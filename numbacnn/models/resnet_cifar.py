"""Residual networks for CIFAR's images of 32×32.

ResNet-20, -32 and -56 of He et al. 2016, "Deep residual learning for image recognition", section 4.2, with projections
where the shape changes (option B). The paper's own shortcuts there (option A: every other pixel, and zeros for the new
channels) have no parameters: 2,752 fewer, 269,722 instead of 272,474 for ResNet-20.

Wide ResNets of Zagoruyko and Komodakis 2016, "Wide residual networks", table 1: normalization and ReLU precede each
convolution, and a shortcut that changes the shape is a 1×1 convolution after the first of them.
"""

from functools import partial

from numbacnn.engine.graph import Tensor
from numbacnn.layers import Add, BatchNorm, Conv2D, Dropout
from numbacnn.models.build import Architecture, architecture, convolution, relu
from numbacnn.models.resnet import basic_block, head, stages

CIFAR = (32, 32, 3)


def _resnet(name: str, depth: int, doc: str) -> Architecture:
    """Return a ResNet of three stages of (depth − 2) / 6 blocks."""

    @architecture(CIFAR, 10, name=name, doc=doc)
    def record(x: Tensor, classes: int) -> Tensor:
        x = convolution(x, Conv2D(16, 3, padding=1, bias=False, name="conv1"), "bn1", relu("relu"))
        return head(stages(x, basic_block, 3 * [(depth - 2) // 6], 16), classes)

    return record


def _wide_resnet(name: str, depth: int, width: int, doc: str) -> Architecture:
    """Return a wide ResNet of three stages of (depth − 4) / 6 blocks."""

    @architecture(CIFAR, 10, name=name, doc=f"{doc} ``dropout`` is between the two convolutions of each block.")
    def record(x: Tensor, classes: int, *, dropout: float = 0.0) -> Tensor:
        block = partial(_wide_block, dropout=dropout)
        x = stages(Conv2D(16, 3, padding=1, bias=False, name="conv1")(x), block, 3 * [(depth - 4) // 6], 16 * width)
        return head(relu("relu")(BatchNorm(name="bn1")(x)), classes)

    return record


def _wide_block(x: Tensor, name: str, filters: int, stride: int, dropout: float) -> Tensor:
    normalized = relu(f"{name}.relu1")(BatchNorm(name=f"{name}.bn1")(x))
    first = Conv2D(filters, 3, stride=stride, padding=1, bias=False, name=f"{name}.conv1")
    y = convolution(normalized, first, f"{name}.bn2", relu(f"{name}.relu2"))
    if dropout:
        y = Dropout(dropout, name=f"{name}.dropout")(y)
    y = Conv2D(filters, 3, padding=1, bias=False, name=f"{name}.conv2")(y)
    if x.shape != y.shape:
        x = Conv2D(filters, 1, stride=stride, bias=False, name=f"{name}.shortcut")(normalized)
    total: Tensor = Add(name=f"{name}.add")([y, x])
    return total


resnet20 = _resnet("resnet20", 20, "ResNet-20 of 16, 32 and 64 filters: 272,474 parameters.")
resnet32 = _resnet("resnet32", 32, "ResNet-32 of 16, 32 and 64 filters: 466,906 parameters.")
resnet56 = _resnet("resnet56", 56, "ResNet-56 of 16, 32 and 64 filters: 855,770 parameters.")
wide_resnet16_4 = _wide_resnet("wide_resnet16_4", 16, 4, "WRN-16-4: 2,748,890 parameters.")
wide_resnet28_10 = _wide_resnet("wide_resnet28_10", 28, 10, "WRN-28-10: 36,479,194 parameters.")
