"""LeNet-5 (LeCun et al. 1998, "Gradient-based learning applied to document recognition", section II.B)."""

from collections.abc import Sequence

from numbacnn.layers import Conv2D, Dense, Flatten, MaxPool2D, ReLU
from numbacnn.model import Sequential


def lenet5(
    input_shape: Sequence[int] = (28, 28, 1), classes: int = 10, seed: int = 0, device: str = "cpu"
) -> Sequential:
    """The modern form, with ReLU and max-pooling: 61,706 parameters at 28×28×1 and 10 classes."""
    layers = [
        Conv2D(6, 5, padding=2),
        ReLU(),
        MaxPool2D(2),
        Conv2D(16, 5),
        ReLU(),
        MaxPool2D(2),
        Flatten(),
        Dense(120),
        ReLU(),
        Dense(84),
        ReLU(),
        Dense(classes),
    ]
    return Sequential(layers, input_shape, seed=seed, device=device)
