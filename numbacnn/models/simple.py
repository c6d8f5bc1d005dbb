"""Plain networks for small images."""

from numbacnn.engine.graph import Tensor
from numbacnn.layers import Conv2D, Dense, Dropout, Flatten, MaxPool2D, ReLU
from numbacnn.models.build import Architecture, architecture, chain, double_convolution


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


def _deep_cnn(name: str, filters: int, rate: float, doc: str) -> Architecture:
    """Return a network of three pairs of convolutions, each pair with twice the filters of the one before."""

    @architecture((28, 28, 1), 10, name=name, doc=doc)
    def record(x: Tensor, classes: int, *, dropout: float = rate) -> Tensor:
        for i in range(3):
            x = MaxPool2D(2, name=f"pool{i + 1}")(double_convolution(x, f"pair{i + 1}", filters << i))
        return chain(x, [Flatten(), Dropout(dropout), Dense(classes)])

    return record


deep_cnn = _deep_cnn(
    "deep_cnn",
    16,
    0.3,
    """Three pairs of 3×3 convolutions of 16, 32 and 64 filters, with batch normalization and a pool after each pair.

    A dense layer follows after dropout: 77,786 parameters on MNIST.
    """,
)
deep_cnn_wide = _deep_cnn(
    "deep_cnn_wide",
    32,
    0.0,
    "``deep_cnn`` with twice the filters and, by default, no dropout: 298,410 parameters on MNIST.",
)
