"""VGG (Simonyan and Zisserman 2015, "Very deep convolutional networks for large-scale image recognition", table 1)."""

from collections.abc import Sequence

from numbacnn.layers import (
    AdaptiveAveragePool2D,
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
from numbacnn.models.build import Size, Weights, build, chain, numbered

IMAGENET: Size = (224, 224, 3)
FILTERS = (64, 128, 256, 512, 512)  # of the five stages, each of so many convolutions and a pool:
A, B, D, E = (1, 1, 2, 2, 2), (2, 2, 2, 2, 2), (2, 2, 3, 3, 3), (2, 2, 4, 4, 4)


def vgg11(
    input_shape: Size = IMAGENET,
    classes: int = 1000,
    weights: Weights = None,
    seed: int = 0,
    device: str = "cpu",
    *,
    dropout: float = 0.5,
) -> Model:
    """Configuration A: 132,863,336 parameters. Images of at least 32×32."""
    return _vgg(A, False, input_shape, classes, weights, seed, device, dropout)


def vgg13(
    input_shape: Size = IMAGENET,
    classes: int = 1000,
    weights: Weights = None,
    seed: int = 0,
    device: str = "cpu",
    *,
    dropout: float = 0.5,
) -> Model:
    """Configuration B: 133,047,848 parameters. Images of at least 32×32."""
    return _vgg(B, False, input_shape, classes, weights, seed, device, dropout)


def vgg16(
    input_shape: Size = IMAGENET,
    classes: int = 1000,
    weights: Weights = None,
    seed: int = 0,
    device: str = "cpu",
    *,
    dropout: float = 0.5,
) -> Model:
    """Configuration D: 138,357,544 parameters. Images of at least 32×32."""
    return _vgg(D, False, input_shape, classes, weights, seed, device, dropout)


def vgg19(
    input_shape: Size = IMAGENET,
    classes: int = 1000,
    weights: Weights = None,
    seed: int = 0,
    device: str = "cpu",
    *,
    dropout: float = 0.5,
) -> Model:
    """Configuration E: 143,667,240 parameters. Images of at least 32×32."""
    return _vgg(E, False, input_shape, classes, weights, seed, device, dropout)


def vgg11_bn(
    input_shape: Size = IMAGENET,
    classes: int = 1000,
    weights: Weights = None,
    seed: int = 0,
    device: str = "cpu",
    *,
    dropout: float = 0.5,
) -> Model:
    """Configuration A with batch normalisation: 132,868,840 parameters. Images of at least 32×32."""
    return _vgg(A, True, input_shape, classes, weights, seed, device, dropout)


def vgg13_bn(
    input_shape: Size = IMAGENET,
    classes: int = 1000,
    weights: Weights = None,
    seed: int = 0,
    device: str = "cpu",
    *,
    dropout: float = 0.5,
) -> Model:
    """Configuration B with batch normalisation: 133,053,736 parameters. Images of at least 32×32."""
    return _vgg(B, True, input_shape, classes, weights, seed, device, dropout)


def vgg16_bn(
    input_shape: Size = IMAGENET,
    classes: int = 1000,
    weights: Weights = None,
    seed: int = 0,
    device: str = "cpu",
    *,
    dropout: float = 0.5,
) -> Model:
    """Configuration D with batch normalisation: 138,365,992 parameters. Images of at least 32×32."""
    return _vgg(D, True, input_shape, classes, weights, seed, device, dropout)


def vgg19_bn(
    input_shape: Size = IMAGENET,
    classes: int = 1000,
    weights: Weights = None,
    seed: int = 0,
    device: str = "cpu",
    *,
    dropout: float = 0.5,
) -> Model:
    """Configuration E with batch normalisation: 143,678,248 parameters. Images of at least 32×32."""
    return _vgg(E, True, input_shape, classes, weights, seed, device, dropout)


def _vgg(
    convolutions: Sequence[int],
    normalized: bool,
    input_shape: Size,
    classes: int,
    weights: Weights,
    seed: int,
    device: str,
    dropout: float,
) -> Model:
    features: list[Layer] = []
    for count, filters in zip(convolutions, FILTERS, strict=True):
        for _ in range(count):
            features += [Conv2D(filters, 3, padding=1), *([BatchNorm()] if normalized else []), ReLU()]
        features.append(MaxPool2D(2))
    classifier = [
        *(Dense(4096), ReLU(), Dropout(dropout)),
        *(Dense(4096), ReLU(), Dropout(dropout)),
        Dense(classes),
    ]
    layers = [
        *numbered("features", features),
        AdaptiveAveragePool2D((7, 7), name="avgpool"),
        Flatten(name="flatten"),
        *numbered("classifier", classifier),
    ]
    return build(lambda x: chain(x, layers), input_shape, weights, seed, device)
