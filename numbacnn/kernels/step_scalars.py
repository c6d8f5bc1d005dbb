"""The constants of an update that kernels take as arguments."""

from typing import NamedTuple

SUM_GROUPS = 64  # partial sums of a norm: a fixed number makes the order of the sum fixed


class AdamOptions(NamedTuple):
    """The constants of Adam, AdamW and LAMB; ``weight_decay`` is L2, and for LAMB part of the direction."""

    beta_1: float
    beta_2: float
    eps: float
    weight_decay: float


class RmspropOptions(NamedTuple):
    """The constants of RMSprop; ``alpha`` is the decay of the running means."""

    alpha: float
    momentum: float
    eps: float
    weight_decay: float
