"""LeNet-5 (LeCun et al. 1998, "Gradient-based learning applied to document recognition", section II.B)."""

from numbacnn.layers import AvgPool2D, Conv2D, Dense, Flatten, Layer, MaxPool2D, ReLU, Tanh
from numbacnn.model import Model
from numbacnn.models.build import Size, Weights, build, chain


def lenet5(
    input_shape: Size = (28, 28, 1),
    classes: int = 10,
    weights: Weights = None,
    seed: int = 0,
    device: str = "cpu",
    precision: str = "fp32",
    *,
    original: bool = False,
) -> Model:
    """The modern form, with ReLU and max-pooling: 61,706 parameters at 28×28×1 and 10 classes.

    ``original`` has tanh and average-pooling as in the paper, of which it simplifies: pools without trained factor and
    bias, all of the third layer's channels connected, a tanh that is not scaled, and logits in place of distances to
    drawn patterns.
    """
    activation: type[Layer] = Tanh if original else ReLU
    pool: type[AvgPool2D | MaxPool2D] = AvgPool2D if original else MaxPool2D
    layers = [
        *(Conv2D(6, 5, padding=2), activation(), pool(2)),
        *(Conv2D(16, 5), activation(), pool(2)),
        Flatten(),
        *(Dense(120), activation()),
        *(Dense(84), activation()),
        Dense(classes),
    ]
    return build(lambda x: chain(x, layers), input_shape, weights, seed, device, precision)
