"""Plain networks for small images."""

from numbacnn.engine.graph import Tensor
from numbacnn.layers import Conv2D, Dense, Dropout, Flatten, MaxPool2D, ReLU
from numbacnn.models.build import architecture, chain, double_convolution


@architecture((28, 28, 1), 10)
def simple_cnn(x: Tensor, classes: int) -> Tensor:
    """Two 3×3 convolutions of 32 and 64 filters with pools, and a dense layer of 128: 421,642 parameters on MNIST."""
    layers = [
        *(Conv2D(32, 3, padding="same"), ReLU(), MaxPool2D(2)),
        *(Conv2D(64, 3, padding="same"), ReLU(), MaxPool2D(2)),
        Flatten(),
        *(Dense(128), ReLU()),
        Dense(classes),
    ]
    return chain(x, layers)


@architecture((28, 28, 1), 10)
def deep_cnn(x: Tensor, classes: int, *, dropout: float = 0.3) -> Tensor:
    """Three pairs of 3×3 convolutions of 16, 32 and 64 filters, with batch normalization and a pool after each pair.

    A dense layer follows after dropout: 77,786 parameters on MNIST.
    """
    for i, filters in enumerate((16, 32, 64), 1):
        x = MaxPool2D(2, name=f"pool{i}")(double_convolution(x, f"pair{i}", filters))
    return chain(x, [Flatten(), Dropout(dropout), Dense(classes)])
