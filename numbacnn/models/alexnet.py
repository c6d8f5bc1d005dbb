"""AlexNet in the one-column form of Krizhevsky 2014, "One weird trick for parallelizing convolutional neural networks",
which torchvision has too."""

from numbacnn.engine.graph import Tensor
from numbacnn.layers import AdaptiveAvgPool2D, Conv2D, Dense, Dropout, Flatten, MaxPool2D, ReLU
from numbacnn.models.build import architecture, chain, numbered


@architecture((224, 224, 3), 1000)
def alexnet(x: Tensor, classes: int, *, dropout: float = 0.5) -> Tensor:
    """AlexNet (Krizhevsky et al. 2012) without local response normalization: 61,100,840 parameters.

    Images must have at least 63×63 pixels.
    """
    features = [
        *(Conv2D(64, 11, stride=4, padding=2), ReLU(), MaxPool2D(3, 2)),
        *(Conv2D(192, 5, padding=2), ReLU(), MaxPool2D(3, 2)),
        *(Conv2D(384, 3, padding=1), ReLU()),
        *(Conv2D(256, 3, padding=1), ReLU()),
        *(Conv2D(256, 3, padding=1), ReLU(), MaxPool2D(3, 2)),
    ]
    classifier = [
        *(Dropout(dropout), Dense(4096), ReLU()),
        *(Dropout(dropout), Dense(4096), ReLU()),
        Dense(classes),
    ]
    layers = [
        *numbered("features", features),
        AdaptiveAvgPool2D((6, 6), name="avgpool"),
        Flatten(name="flatten"),
        *numbered("classifier", classifier),
    ]
    return chain(x, layers)
