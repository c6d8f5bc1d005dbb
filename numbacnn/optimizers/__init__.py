"""Optimizers: kernels over the flat arena of parameters, and their state in arenas of the same layout."""

from numbacnn._checks import choose, shown
from numbacnn.errors import ArgumentError
from numbacnn.optimizers.adam import LAMB, Adam, AdamW
from numbacnn.optimizers.base import Optimizer as Optimizer
from numbacnn.optimizers.base import ParamGroup
from numbacnn.optimizers.base import Trainable as Trainable
from numbacnn.optimizers.muon import Muon
from numbacnn.optimizers.rmsprop import Adagrad, RMSprop
from numbacnn.optimizers.sgd import SGD

OPTIMIZERS: dict[str, type[Optimizer]] = {kind.name: kind for kind in (SGD, Adam, AdamW, RMSprop, Adagrad, LAMB, Muon)}


def get_optimizer(optimizer: str | Optimizer) -> Optimizer:
    """Return an optimizer by its name, with recommended options, or the optimizer itself. Raises ArgumentError."""
    if isinstance(optimizer, str):
        kind = choose("optimizer", optimizer, OPTIMIZERS)
        return kind(**kind.recommended)
    if not isinstance(optimizer, Optimizer):
        raise ArgumentError(f'optimizer={shown(optimizer)}: pass a name such as "adam", or SGD(0.01, momentum=0.9)')
    return optimizer


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
