"""Convolutional networks compiled with Numba: small, readable, fast, and the same bits on any number of threads."""

from importlib.metadata import PackageNotFoundError, version
from typing import NoReturn

from numbacnn import data, detection, functional, layers, losses, metrics, models, optimizers, plots, schedules, testing
from numbacnn._checks import did_you_mean
from numbacnn.data import augment
from numbacnn.engine.device import kernel
from numbacnn.engine.graph import Input
from numbacnn.engine.locks import get_num_threads, set_num_threads
from numbacnn.errors import ArgumentError, DataError, GeometryError, GradientError, ModelFileError, NumbacnnError
from numbacnn.layers import *
from numbacnn.model import Model, Sequential, load
from numbacnn.optimizers import *
from numbacnn.testing import check_gradients
from numbacnn.training.trainer import EarlyStopping, EpochEnd, History, StepEnd

try:
    __version__ = version("numbacnn")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+unknown"

__all__ = [
    "ArgumentError",
    "DataError",
    "EarlyStopping",
    "EpochEnd",
    "GeometryError",
    "GradientError",
    "History",
    "Input",
    "Model",
    "ModelFileError",
    "NumbacnnError",
    "Sequential",
    "StepEnd",
    "augment",
    "check_gradients",
    "data",
    "detection",
    "functional",
    "get_num_threads",
    "kernel",
    "layers",
    "load",
    "losses",
    "metrics",
    "models",
    "plots",
    "schedules",
    "set_num_threads",
    "testing",
]
__all__ += layers.__all__
__all__ += optimizers.__all__

# Names in other frameworks, for the error that an unknown attribute raises.
_ELSEWHERE = {
    "Keras'": {
        "AveragePooling2D": "AvgPool2D",
        "BatchNormalization": "BatchNorm",
        "Concatenate": "Concat",
        "GlobalAveragePooling2D": "GlobalAvgPool2D",
        "GlobalMaxPooling2D": "GlobalMaxPool2D",
        "GroupNormalization": "GroupNorm",
        "MaxPooling2D": "MaxPool2D",
        "SpatialDropout2D": "SpatialDropout",
        "UpSampling2D": "Upsample2D",
        "ZeroPadding2D": "ZeroPad2D",
    },
    "PyTorch's": {
        "AdaptiveAvgPool2d": "AdaptiveAvgPool2D",
        "AdaptiveMaxPool2d": "AdaptiveMaxPool2D",
        "AvgPool2d": "AvgPool2D",
        "BatchNorm2d": "BatchNorm",
        "Conv2d": "Conv2D",
        "ConvTranspose2d": "Conv2DTranspose",
        "Dropout2d": "SpatialDropout",
        "Linear": "Dense",
        "MaxPool2d": "MaxPool2D",
        "Upsample": "Upsample2D",
        "ZeroPad2d": "ZeroPad2D",
    },
}


def __getattr__(name: str) -> NoReturn:
    for framework, names in _ELSEWHERE.items():
        if name in names:
            raise AttributeError(f"{framework} {name} is nc.{names[name]}")
    hint = "" if name.startswith("_") else did_you_mean(name, __all__).strip()
    raise AttributeError(f"module 'numbacnn' has no attribute {name!r}{'; ' if hint else ''}{hint}")
