"""Convolutional networks compiled with Numba: small, readable, fast, and the same bits on any number of threads."""

from importlib.metadata import PackageNotFoundError, version

from numbacnn import data, functional, layers, losses, models, schedules
from numbacnn.device import get_num_threads, kernel, set_num_threads
from numbacnn.errors import ArgumentError, DataError, GeometryError, GradientError, ModelFileError, NumbacnnError
from numbacnn.gradient_check import check_gradients
from numbacnn.graph import Input
from numbacnn.layers import (
    ELU,
    GELU,
    AdaptiveAveragePool2D,
    AdaptiveMaxPool2D,
    Add,
    AveragePool2D,
    Concat,
    Conv2D,
    Dense,
    Flatten,
    GlobalAveragePool2D,
    GlobalMaxPool2D,
    Hardsigmoid,
    Hardswish,
    Layer,
    LeakyReLU,
    MaxPool2D,
    Multiply,
    Parameter,
    PReLU,
    ReLU,
    ReLU6,
    Reshape,
    Scratch,
    Sigmoid,
    SiLU,
    Softmax,
    Tanh,
    UpSample2D,
    ZeroPad2D,
    activation,
)
from numbacnn.model import Model, Sequential, load
from numbacnn.optimizers import SGD, Adam
from numbacnn.training import EarlyStopping, EpochEnd, History, StepEnd

try:
    __version__ = version("numbacnn")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+unknown"

__all__ = [
    "ELU",
    "GELU",
    "SGD",
    "Adam",
    "AdaptiveAveragePool2D",
    "AdaptiveMaxPool2D",
    "Add",
    "ArgumentError",
    "AveragePool2D",
    "Concat",
    "Conv2D",
    "DataError",
    "Dense",
    "EarlyStopping",
    "EpochEnd",
    "Flatten",
    "GeometryError",
    "GlobalAveragePool2D",
    "GlobalMaxPool2D",
    "GradientError",
    "Hardsigmoid",
    "Hardswish",
    "History",
    "Input",
    "Layer",
    "LeakyReLU",
    "MaxPool2D",
    "Model",
    "ModelFileError",
    "Multiply",
    "NumbacnnError",
    "PReLU",
    "Parameter",
    "ReLU",
    "ReLU6",
    "Reshape",
    "Scratch",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "StepEnd",
    "Tanh",
    "UpSample2D",
    "ZeroPad2D",
    "activation",
    "check_gradients",
    "data",
    "functional",
    "get_num_threads",
    "kernel",
    "layers",
    "load",
    "losses",
    "models",
    "schedules",
    "set_num_threads",
]
