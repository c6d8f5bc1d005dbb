"""Plain networks for small images."""

from numbacnn.engine.graph import Tensor
from numbacnn.layers import Conv2D, Dense, Dropout, Flatten, MaxPool2D, ReLU
from numbacnn.model import Model
from numbacnn.models.build import Size, Weights, build, chain, pair_of_convolutions


def simple_cnn(
    input_shape: Size = (28, 28, 1),
    classes: int = 10,
    weights: Weights = None,
    seed: int = 0,
    device: str = "cpu",
    precision: str = "fp32",
) -> Model:
    """Two 3×3 convolutions of 32 and 64 filters, each pooled, and a dense layer of 128: 421,642 parameters on MNIST."""
    layers = [
        *(Conv2D(32, 3, padding="same"), ReLU(), MaxPool2D(2)),
        *(Conv2D(64, 3, padding="same"), ReLU(), MaxPool2D(2)),
        Flatten(),
        *(Dense(128), ReLU()),
        Dense(classes),
    ]
    return build(lambda x: chain(x, layers), input_shape, weights, seed, device, precision)


def deep_cnn(
    input_shape: Size = (28, 28, 1),
    classes: int = 10,
    weights: Weights = None,
    seed: int = 0,
    device: str = "cpu",
    precision: str = "fp32",
    *,
    dropout: float = 0.3,
) -> Model:
    """Three pairs of 3×3 convolutions with batch normalisation, of 16, 32 and 64 filters, each pair pooled, and a
    dense layer behind dropout: 77,786 parameters on MNIST.
    """

    def record(x: Tensor) -> Tensor:
        for i, filters in enumerate((16, 32, 64), 1):
            x = MaxPool2D(2, name=f"pool{i}")(pair_of_convolutions(x, f"pair{i}", filters))
        return chain(x, [Flatten(), Dropout(dropout), Dense(classes)])

    return build(record, input_shape, weights, seed, device, precision)
