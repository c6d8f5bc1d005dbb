"""The layers: small specifications, each with its shapes, its parameters and its bindings to kernels."""

from numbacnn.layers.activations import (
    ELU,
    GELU,
    Hardsigmoid,
    Hardswish,
    LeakyReLU,
    PReLU,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Softmax,
    Tanh,
    activation,
)
from numbacnn.layers.base import REGISTRY, Layer, Parameter, Scratch, is_own
from numbacnn.layers.convolution import Conv2D
from numbacnn.layers.dense import Dense
from numbacnn.layers.dropout import Dropout, SpatialDropout
from numbacnn.layers.merging import Add, Concat, Multiply, squeeze_excite
from numbacnn.layers.normalization import BatchNorm, GroupNorm, LocalResponseNorm
from numbacnn.layers.pooling import (
    AdaptiveAveragePool2D,
    AdaptiveMaxPool2D,
    AveragePool2D,
    GlobalAveragePool2D,
    GlobalMaxPool2D,
    MaxPool2D,
)
from numbacnn.layers.shape import Flatten, Reshape, UpSample2D, ZeroPad2D

__all__ = [
    "ELU",
    "GELU",
    "REGISTRY",
    "AdaptiveAveragePool2D",
    "AdaptiveMaxPool2D",
    "Add",
    "AveragePool2D",
    "BatchNorm",
    "Concat",
    "Conv2D",
    "Dense",
    "Dropout",
    "Flatten",
    "GlobalAveragePool2D",
    "GlobalMaxPool2D",
    "GroupNorm",
    "Hardsigmoid",
    "Hardswish",
    "Layer",
    "LeakyReLU",
    "LocalResponseNorm",
    "MaxPool2D",
    "Multiply",
    "PReLU",
    "Parameter",
    "ReLU",
    "ReLU6",
    "Reshape",
    "Scratch",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "SpatialDropout",
    "Tanh",
    "UpSample2D",
    "ZeroPad2D",
    "activation",
    "is_own",
    "squeeze_excite",
]
