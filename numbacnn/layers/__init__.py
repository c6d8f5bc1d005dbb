"""The layers: specifications, each with its shapes, its parameters and its calls of kernels."""

from numbacnn.layers.activations import (
    ELU,
    GELU,
    Hardsigmoid,
    Hardswish,
    LeakyReLU,
    LogSoftmax,
    PReLU,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Softmax,
    Tanh,
)
from numbacnn.layers.base import Layer, ParameterSpec, ScratchSpec
from numbacnn.layers.convolution import Conv2D, DepthwiseConv2D
from numbacnn.layers.custom import custom_activation
from numbacnn.layers.dense import Dense
from numbacnn.layers.dropout import Dropout, SpatialDropout
from numbacnn.layers.elementwise import Clip, Elementwise, Power
from numbacnn.layers.merging import Add, Concat, Maximum, Minimum, Multiply
from numbacnn.layers.merging import squeeze_excite as squeeze_excite
from numbacnn.layers.normalization import BatchNorm, GroupNorm, LocalResponseNorm
from numbacnn.layers.pooling import (
    AdaptiveAvgPool2D,
    AdaptiveMaxPool2D,
    AvgPool2D,
    GlobalAvgPool2D,
    GlobalMaxPool2D,
    MaxPool2D,
)
from numbacnn.layers.registry import REGISTRY as REGISTRY
from numbacnn.layers.registry import is_custom as is_custom
from numbacnn.layers.resizing import Resize2D
from numbacnn.layers.shape import Flatten, Reshape, Slice, Upsample2D, ZeroPad2D
from numbacnn.layers.transposed import Conv2DTranspose

__all__ = [  # the names that ``numbacnn`` has too
    "ELU",
    "GELU",
    "AdaptiveAvgPool2D",
    "AdaptiveMaxPool2D",
    "Add",
    "AvgPool2D",
    "BatchNorm",
    "Clip",
    "Concat",
    "Conv2D",
    "Conv2DTranspose",
    "Dense",
    "DepthwiseConv2D",
    "Dropout",
    "Elementwise",
    "Flatten",
    "GlobalAvgPool2D",
    "GlobalMaxPool2D",
    "GroupNorm",
    "Hardsigmoid",
    "Hardswish",
    "Layer",
    "LeakyReLU",
    "LocalResponseNorm",
    "LogSoftmax",
    "MaxPool2D",
    "Maximum",
    "Minimum",
    "Multiply",
    "PReLU",
    "ParameterSpec",
    "Power",
    "ReLU",
    "ReLU6",
    "Reshape",
    "Resize2D",
    "ScratchSpec",
    "SiLU",
    "Sigmoid",
    "Slice",
    "Softmax",
    "SpatialDropout",
    "Tanh",
    "Upsample2D",
    "ZeroPad2D",
    "custom_activation",
]
