"""LeNet-5 (LeCun et al. 1998, "Gradient-based learning applied to document recognition", section II.B)."""

from numbacnn.engine.graph import Tensor
from numbacnn.layers import AvgPool2D, Conv2D, Dense, Flatten, Layer, MaxPool2D, ReLU, Tanh
from numbacnn.models.build import architecture, chain


@architecture((28, 28, 1), 10)
def lenet5(x: Tensor, classes: int, *, original: bool = False) -> Tensor:
    """LeNet-5 in its modern form, with ReLU and max pooling: 61,706 parameters at 28×28×1 and 10 classes.

    ``original`` has tanh and average pooling as in the paper, which it simplifies: its pools have no trained factor and
    bias, all channels of the third layer are connected, tanh is not scaled, and the outputs are logits instead of
    distances to drawn patterns.
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
    return chain(x, layers)
