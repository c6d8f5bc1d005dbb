"""Optimizers: kernels over the flat arena of parameters, and their state in arenas of the same layout."""

from numbacnn.optimizers.adam import LAMB, Adam, AdamW
from numbacnn.optimizers.base import Optimizer as Optimizer
from numbacnn.optimizers.base import ParamGroup
from numbacnn.optimizers.base import Trainable as Trainable
from numbacnn.optimizers.muon import Muon
from numbacnn.optimizers.rmsprop import Adagrad, RMSprop
from numbacnn.optimizers.sgd import SGD

OPTIMIZERS: dict[str, type[Optimizer]] = {kind.name: kind for kind in (SGD, Adam, AdamW, RMSprop, Adagrad, LAMB, Muon)}

__all__ = [  # the names that ``numbacnn`` has too
    "LAMB",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Muon",
    "ParamGroup",
    "RMSprop",
]
