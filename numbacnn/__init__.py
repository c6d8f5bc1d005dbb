"""Convolutional networks compiled with Numba: small, readable, fast, and the same bits on any number of threads."""

from importlib.metadata import PackageNotFoundError, version

from numbacnn import data, functional, losses, models, schedules
from numbacnn.device import get_num_threads, set_num_threads
from numbacnn.errors import ArgumentError, DataError, GeometryError, ModelFileError, NumbacnnError
from numbacnn.graph import Input
from numbacnn.layers import (
    ELU,
    GELU,
    AdaptiveAveragePool2D,
    AdaptiveMaxPool2D,
    Add,
    AveragePool2D,
    BatchNorm,
    Concat,
    Conv2D,
    Conv2DTranspose,
    Dense,
    DepthwiseConv2D,
    Flatten,
    GlobalAveragePool2D,
    GlobalMaxPool2D,
    Hardsigmoid,
    Hardswish,
    LeakyReLU,
    MaxPool2D,
    Multiply,
    PReLU,
    ReLU,
    ReLU6,
    Reshape,
    Sigmoid,
    SiLU,
    Softmax,
    Tanh,
    UpSample2D,
    ZeroPad2D,
)
from numbacnn.model import Model, Sequential, load
from numbacnn.optimizers import LAMB, SGD, Adagrad, Adam, AdamW, Group, Muon, RMSprop
from numbacnn.training import EarlyStopping, EpochEnd, History, StepEnd

try:
    __version__ = version("numbacnn")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+unknown"

__all__ = [
    "ELU",
    "GELU",
    "LAMB",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "AdaptiveAveragePool2D",
    "AdaptiveMaxPool2D",
    "Add",
    "ArgumentError",
    "AveragePool2D",
    "BatchNorm",
    "Concat",
    "Conv2D",
    "Conv2DTranspose",
    "DataError",
    "Dense",
    "DepthwiseConv2D",
    "EarlyStopping",
    "EpochEnd",
    "Flatten",
    "GeometryError",
    "GlobalAveragePool2D",
    "GlobalMaxPool2D",
    "Group",
    "Hardsigmoid",
    "Hardswish",
    "History",
    "Input",
    "LeakyReLU",
    "MaxPool2D",
    "Model",
    "ModelFileError",
    "Multiply",
    "Muon",
    "NumbacnnError",
    "PReLU",
    "RMSprop",
    "ReLU",
    "ReLU6",
    "Reshape",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "StepEnd",
    "Tanh",
    "UpSample2D",
    "ZeroPad2D",
    "data",
    "functional",
    "get_num_threads",
    "load",
    "losses",
    "models",
    "schedules",
    "set_num_threads",
]
