"""Convolutional networks compiled with Numba: small, readable, fast, and the same bits on any number of threads."""

from importlib.metadata import PackageNotFoundError, version

from numbacnn import data, functional, losses, models, schedules
from numbacnn.device import get_num_threads, set_num_threads
from numbacnn.errors import ArgumentError, DataError, GeometryError, ModelFileError, NumbacnnError
from numbacnn.graph import Input
from numbacnn.layers import (
    Add,
    AveragePool2D,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePool2D,
    GlobalMaxPool2D,
    GroupNorm,
    LocalResponseNorm,
    MaxPool2D,
    ReLU,
    Sigmoid,
    Softmax,
    SpatialDropout,
    Tanh,
)
from numbacnn.model import Model, Sequential, load
from numbacnn.optimizers import SGD, Adam
from numbacnn.training import EarlyStopping, EpochEnd, History, StepEnd

try:
    __version__ = version("numbacnn")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+unknown"

__all__ = [
    "SGD",
    "Adam",
    "Add",
    "ArgumentError",
    "AveragePool2D",
    "BatchNorm",
    "Conv2D",
    "DataError",
    "Dense",
    "Dropout",
    "EarlyStopping",
    "EpochEnd",
    "Flatten",
    "GeometryError",
    "GlobalAveragePool2D",
    "GlobalMaxPool2D",
    "GroupNorm",
    "History",
    "Input",
    "LocalResponseNorm",
    "MaxPool2D",
    "Model",
    "ModelFileError",
    "NumbacnnError",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "SpatialDropout",
    "StepEnd",
    "Tanh",
    "data",
    "functional",
    "get_num_threads",
    "load",
    "losses",
    "models",
    "schedules",
    "set_num_threads",
]
