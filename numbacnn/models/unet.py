"""U-Net (Ronneberger et al. 2015, "U-Net: convolutional networks for biomedical image segmentation", figure 1)."""

from numbacnn._checks import whole
from numbacnn.engine.graph import Tensor
from numbacnn.errors import GeometryError
from numbacnn.geometry import image_shape
from numbacnn.layers import Concat, Conv2D, Conv2DTranspose, MaxPool2D
from numbacnn.model import Model
from numbacnn.models.build import Size, Weights, build, pair_of_convolutions
from numbacnn.tasks import Segmentation


def unet(
    input_shape: Size = (256, 256, 1),
    classes: int = 2,
    weights: Weights = None,
    seed: int = 0,
    device: str = "cpu",
    precision: str = "fp32",
    *,
    depth: int = 4,
    width: int = 64,
) -> Model:
    """Logits (h, w, classes), a class for each pixel: 31,036,546 parameters for one channel and two classes.

    ``depth`` is how often the image is halved, ``width`` the filters at full size, doubled with each halving. Unlike
    the paper's, convolutions keep the size ("same" padding), and have batch normalisation and no bias. Height and
    width must be multiples of 2^depth.
    """
    whole(depth, "depth"), whole(width, "width")
    h, w, _ = image_shape(tuple(input_shape))
    if h % 2**depth or w % 2**depth:
        raise GeometryError(f"unet halves images {depth} times: give sizes that {2**depth} divides, not {h}×{w}")

    def record(x: Tensor) -> Tensor:
        skips: list[Tensor] = []
        for level in range(depth):
            x = pair_of_convolutions(x, f"encoder{level + 1}", width << level)
            skips.append(x)
            x = MaxPool2D(2, name=f"encoder{level + 1}.pool")(x)
        x = pair_of_convolutions(x, "bottleneck", width << depth)
        for level in reversed(range(depth)):
            name = f"decoder{level + 1}"
            up = Conv2DTranspose(width << level, 2, stride=2, name=f"{name}.up")(x)
            x = pair_of_convolutions(Concat(name=f"{name}.concat")([skips[level], up]), name, width << level)
        y: Tensor = Conv2D(classes, 1, name="head")(x)
        return y

    return build(record, input_shape, weights, seed, device, precision, task=Segmentation.name)


def unet_small(
    input_shape: Size = (64, 64, 1),
    classes: int = 2,
    weights: Weights = None,
    seed: int = 0,
    device: str = "cpu",
    precision: str = "fp32",
) -> Model:
    """U-Net of three halvings and 16 filters at full size, for training on a CPU: 482,466 parameters at two classes."""
    return unet(input_shape, classes, weights, seed, device, precision, depth=3, width=16)
