"""A one-stage detector on a grid, after YOLO (Redmon et al. 2016, "You only look once", section 2)."""

from numbacnn._checks import whole
from numbacnn.engine.graph import Tensor
from numbacnn.layers import Conv2D, MaxPool2D
from numbacnn.model import Model
from numbacnn.models.build import Size, Weights, build, pair_of_convolutions
from numbacnn.tasks import Detection


def grid_detector(
    input_shape: Size = (64, 64, 1),
    classes: int = 10,
    weights: Weights = None,
    seed: int = 0,
    device: str = "cpu",
    precision: str = "fp32",
    *,
    depth: int = 3,
    width: int = 16,
) -> Model:
    """5 + classes numbers for each cell of 2^depth × 2^depth pixels: 295,647 parameters for one channel, ten classes.

    The numbers are a presence, a box and the classes; see ``tasks.detection``.

    ``width``: filters at full size, doubled with each of ``depth`` halvings. Two objects need a distance of a cell
    between their middles to be told apart; an object may be larger than a cell, up to some seven of them.
    """
    whole(depth, "depth"), whole(width, "width"), whole(classes, "classes")

    def record(x: Tensor) -> Tensor:
        for level in range(depth):
            x = pair_of_convolutions(x, f"stage{level + 1}", width << level)
            x = MaxPool2D(2, name=f"stage{level + 1}.pool")(x)
        x = pair_of_convolutions(x, f"stage{depth + 1}", width << depth)
        outputs = Detection(tuple(input_shape)).outputs(classes)
        y: Tensor = Conv2D(outputs, 1, name="head")(x)
        return y

    return build(record, input_shape, weights, seed, device, precision, task=Detection.name)
