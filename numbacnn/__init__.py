"""Convolutional networks compiled with Numba: small, readable, fast, and the same bits on any number of threads."""

import sys
from pathlib import Path

if not Path(__file__).with_name("cli").exists():  # a checkout, whose folder cli/ is numbacnn.cli
    __path__.append(str(Path(__file__).parents[1]))

from numbacnn import (
    data,
    detection,
    functional,
    layers,
    logs,
    losses,
    metrics,
    models,
    onnx,
    optimizers,
    plots,
    schedules,
    testing,
)
from numbacnn._checks.names import answer_imports, answer_names, public_names
from numbacnn._checks.version import __version__ as __version__
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
    "logs",
    "losses",
    "metrics",
    "models",
    "onnx",
    "plots",
    "schedules",
    "set_num_threads",
    "testing",
]
__all__ += layers.__all__
__all__ += optimizers.__all__

_MODULES = augment, functional, losses, metrics, models, schedules, data, plots, onnx, layers, optimizers, detection
_HOMES = {
    name: module.__name__.replace("numbacnn", "nc").replace("nc.data.augment", "nc.augment")
    for module in reversed(_MODULES)
    for name in public_names(module)
} | dict.fromkeys(__all__, "nc")
for _module in _MODULES:
    answer_names(_module, _HOMES)


answer_names(sys.modules[__name__], _HOMES, lazy=("serve", "sklearn"))
answer_imports(__name__)
