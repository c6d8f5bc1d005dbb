"""VGG (Simonyan and Zisserman 2015, "Very deep convolutional networks for large-scale image recognition", table 1)."""

from typing import NamedTuple

from numbacnn.layers import (
    AdaptiveAvgPool2D,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Layer,
    MaxPool2D,
    ReLU,
)
from numbacnn.model import Model
from numbacnn.models.build import Size, Weights, build, chain, numbered, variant

IMAGENET: Size = (224, 224, 3)
FILTERS = (64, 128, 256, 512, 512)  # of the five stages, each of so many convolutions and a pool:
A, B, D, E = (1, 1, 2, 2, 2), (2, 2, 2, 2, 2), (2, 2, 3, 3, 3), (2, 2, 4, 4, 4)


class Configuration(NamedTuple):
    """How many convolutions each stage has, and whether each is normalised by the batch."""

    convolutions: tuple[int, ...]
    normalized: bool = False


def _vgg(
    configuration: Configuration,
    input_shape: Size = IMAGENET,
    classes: int = 1000,
    weights: Weights = None,
    seed: int = 0,
    device: str = "cpu",
    precision: str = "fp32",
    *,
    dropout: float = 0.5,
) -> Model:
    features: list[Layer] = []
    for count, filters in zip(configuration.convolutions, FILTERS, strict=True):
        for _ in range(count):
            features += [Conv2D(filters, 3, padding=1), *([BatchNorm()] if configuration.normalized else []), ReLU()]
        features.append(MaxPool2D(2))
    classifier = [
        *(Dense(4096), ReLU(), Dropout(dropout)),
        *(Dense(4096), ReLU(), Dropout(dropout)),
        Dense(classes),
    ]
    layers = [
        *numbered("features", features),
        AdaptiveAvgPool2D((7, 7), name="avgpool"),
        Flatten(name="flatten"),
        *numbered("classifier", classifier),
    ]
    return build(lambda x: chain(x, layers), input_shape, weights, seed, device, precision)


vgg11 = variant("vgg11", _vgg, Configuration(A), "Configuration A: 132,863,336 parameters. Images of at least 32×32.")
vgg13 = variant("vgg13", _vgg, Configuration(B), "Configuration B: 133,047,848 parameters. Images of at least 32×32.")
vgg16 = variant("vgg16", _vgg, Configuration(D), "Configuration D: 138,357,544 parameters. Images of at least 32×32.")
vgg19 = variant("vgg19", _vgg, Configuration(E), "Configuration E: 143,667,240 parameters. Images of at least 32×32.")
vgg11_bn = variant(
    "vgg11_bn",
    _vgg,
    Configuration(A, True),
    "Configuration A with batch normalisation: 132,868,840 parameters. Images of at least 32×32.",
)
vgg13_bn = variant(
    "vgg13_bn",
    _vgg,
    Configuration(B, True),
    "Configuration B with batch normalisation: 133,053,736 parameters. Images of at least 32×32.",
)
vgg16_bn = variant(
    "vgg16_bn",
    _vgg,
    Configuration(D, True),
    "Configuration D with batch normalisation: 138,365,992 parameters. Images of at least 32×32.",
)
vgg19_bn = variant(
    "vgg19_bn",
    _vgg,
    Configuration(E, True),
    "Configuration E with batch normalisation: 143,678,248 parameters. Images of at least 32×32.",
)
