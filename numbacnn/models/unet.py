"""U-Net (Ronneberger et al. 2015, "U-Net: convolutional networks for biomedical image segmentation", figure 1)."""

from numbacnn._checks import whole
from numbacnn.engine.graph import Tensor
from numbacnn.errors import GeometryError
from numbacnn.layers import Concat, Conv2D, Conv2DTranspose, MaxPool2D
from numbacnn.models.build import architecture, double_convolution
from numbacnn.tasks import Segmentation


@architecture((256, 256, 1), 2, task=Segmentation.name)
def unet(x: Tensor, classes: int, *, depth: int = 4, width: int = 64) -> Tensor:
    """U-Net with logits (h, w, classes): 31,036,546 parameters for one channel and two classes.

    Unlike the paper's, its convolutions keep the size ("same" padding), and have batch normalization and no bias.
    Height and width must be multiples of 2^depth.

    Options:
        depth: number of halvings of the image.
        width: filters at full size, doubled with each halving.
    """
    return _unet(x, classes, depth, width)


@architecture((64, 64, 1), 2, task=Segmentation.name)
def unet_small(x: Tensor, classes: int) -> Tensor:
    """U-Net with three halvings and 16 filters at full size, to train on a CPU: 482,466 parameters for two classes."""
    return _unet(x, classes, 3, 16)


def _unet(x: Tensor, classes: int, depth: int, width: int) -> Tensor:
    whole(depth, "depth"), whole(width, "width")
    h, w, _ = x.shape
    if h % 2**depth or w % 2**depth:
        raise GeometryError(f"unet halves images {depth} times; use sizes that are multiples of {2**depth}")
    skips: list[Tensor] = []
    for level in range(depth):
        x = double_convolution(x, f"encoder{level + 1}", width << level)
        skips.append(x)
        x = MaxPool2D(2, name=f"encoder{level + 1}.pool")(x)
    x = double_convolution(x, "bottleneck", width << depth)
    for level in reversed(range(depth)):
        name = f"decoder{level + 1}"
        up = Conv2DTranspose(width << level, 2, stride=2, name=f"{name}.up")(x)
        x = double_convolution(Concat(name=f"{name}.concat")([skips[level], up]), name, width << level)
    y: Tensor = Conv2D(classes, 1, name="head")(x)
    return y
