"""AlexNet (Krizhevsky et al. 2012), in the one-column form of Krizhevsky 2014, "One weird trick for parallelizing
convolutional neural networks", which torchvision has too."""

from numbacnn.layers import AdaptiveAvgPool2D, Conv2D, Dense, Dropout, Flatten, MaxPool2D, ReLU
from numbacnn.model import Model
from numbacnn.models.build import Size, Weights, build, chain, numbered


def alexnet(
    input_shape: Size = (224, 224, 3),
    classes: int = 1000,
    weights: Weights = None,
    seed: int = 0,
    device: str = "cpu",
    precision: str = "fp32",
    *,
    dropout: float = 0.5,
) -> Model:
    """61,100,840 parameters. Images of at least 63×63. Without the paper's local response normalisation."""
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
    return build(lambda x: chain(x, layers), input_shape, weights, seed, device, precision)
