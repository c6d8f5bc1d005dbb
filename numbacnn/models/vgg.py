"""VGG (Simonyan and Zisserman 2015, "Very deep convolutional networks for large-scale image recognition", table 1)."""

from collections.abc import Sequence

from numbacnn.engine.graph import Tensor
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
from numbacnn.models.build import Architecture, architecture, chain, numbered

FILTERS = (64, 128, 256, 512, 512)  # of the five stages
# Convolutions of each stage, which a pool follows.
A, B, D, E = (1, 1, 2, 2, 2), (2, 2, 2, 2, 2), (2, 2, 3, 3, 3), (2, 2, 4, 4, 4)


def _vgg(name: str, counts: Sequence[int], doc: str, normalized: bool = False) -> Architecture:
    @architecture((224, 224, 3), 1000, name=name, doc=f"{doc} Images must have at least 32×32 pixels.")
    def record(x: Tensor, classes: int, *, dropout: float = 0.5) -> Tensor:
        features: list[Layer] = []
        for count, filters in zip(counts, FILTERS, strict=True):
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
            AdaptiveAvgPool2D((7, 7), name="avgpool"),
            Flatten(name="flatten"),
            *numbered("classifier", classifier),
        ]
        return chain(x, layers)

    return record


vgg11 = _vgg("vgg11", A, "Configuration A: 132,863,336 parameters.")
vgg13 = _vgg("vgg13", B, "Configuration B: 133,047,848 parameters.")
vgg16 = _vgg("vgg16", D, "Configuration D: 138,357,544 parameters.")
vgg19 = _vgg("vgg19", E, "Configuration E: 143,667,240 parameters.")
vgg11_bn = _vgg("vgg11_bn", A, "Configuration A with batch normalization: 132,868,840 parameters.", normalized=True)
vgg13_bn = _vgg("vgg13_bn", B, "Configuration B with batch normalization: 133,053,736 parameters.", normalized=True)
vgg16_bn = _vgg("vgg16_bn", D, "Configuration D with batch normalization: 138,365,992 parameters.", normalized=True)
vgg19_bn = _vgg("vgg19_bn", E, "Configuration E with batch normalization: 143,678,248 parameters.", normalized=True)
