"""The layers: small specifications, each with its shapes, its parameters and its bindings to kernels."""

from numbacnn.layers.activations import ReLU, Sigmoid, Softmax, Tanh
from numbacnn.layers.base import REGISTRY, Layer, Parameter, Scratch
from numbacnn.layers.convolution import Conv2D
from numbacnn.layers.dense import Dense, Flatten
from numbacnn.layers.dropout import Dropout, SpatialDropout
from numbacnn.layers.merging import Add
from numbacnn.layers.normalization import BatchNorm, GroupNorm, LocalResponseNorm
from numbacnn.layers.pooling import (
    AveragePool2D,
    GlobalAveragePool2D,
    GlobalMaxPool2D,
    MaxPool2D,
)

__all__ = [
    "REGISTRY",
    "Add",
    "AveragePool2D",
    "BatchNorm",
    "Conv2D",
    "Dense",
    "Dropout",
    "Flatten",
    "GlobalAveragePool2D",
    "GlobalMaxPool2D",
    "GroupNorm",
    "Layer",
    "LocalResponseNorm",
    "MaxPool2D",
    "Parameter",
    "ReLU",
    "Scratch",
    "Sigmoid",
    "Softmax",
    "SpatialDropout",
    "Tanh",
]
