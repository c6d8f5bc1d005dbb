"""A one-stage detector on a grid, after YOLO (Redmon et al. 2016, "You only look once", section 2)."""

from numbacnn._checks import whole
from numbacnn.engine.graph import Tensor
from numbacnn.layers import Conv2D, MaxPool2D
from numbacnn.models.build import architecture, double_convolution
from numbacnn.tasks import Detection


@architecture((64, 64, 1), 10, task=Detection.name)
def grid_detector(x: Tensor, classes: int, *, depth: int = 3, width: int = 16) -> Tensor:
    """A one-stage detector: 295,647 parameters for one channel and ten classes.

    Each cell of 2^depth × 2^depth pixels has 5 + classes outputs: presence, box and classes; see ``tasks.detection``.
    The centers of two objects must be in different cells. An object may span up to about seven cells.

    Options:
        depth: number of halvings of the image.
        width: filters at full size, doubled with each halving.
    """
    whole(depth, "depth"), whole(width, "width"), whole(classes, "classes")
    outputs = Detection(x.shape).outputs(classes)
    for level in range(depth):
        x = double_convolution(x, f"stage{level + 1}", width << level)
        x = MaxPool2D(2, name=f"stage{level + 1}.pool")(x)
    x = double_convolution(x, f"stage{depth + 1}", width << depth)
    y: Tensor = Conv2D(outputs, 1, name="head")(x)
    return y
