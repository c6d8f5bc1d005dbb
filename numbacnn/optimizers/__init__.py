"""Optimisers: kernels over the flat arena of parameters, and their state in arenas of the same layout."""

from numbacnn.optimizers.adam import LAMB, Adam, AdamW
from numbacnn.optimizers.base import Optimizer, ParamGroup, Trainable
from numbacnn.optimizers.muon import Muon
from numbacnn.optimizers.rmsprop import Adagrad, RMSprop
from numbacnn.optimizers.sgd import SGD

OPTIMIZERS: dict[str, type[Optimizer]] = {kind.name: kind for kind in (SGD, Adam, AdamW, RMSprop, Adagrad, LAMB, Muon)}

__all__ = [
    "LAMB",
    "OPTIMIZERS",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Muon",
    "Optimizer",
    "ParamGroup",
    "RMSprop",
    "Trainable",
]
