"""The numbers of one update as kernels take them."""

from typing import NamedTuple

SUM_GROUPS = 64  # partial sums of a norm: their number is fixed, so that their order is


class AdamOptions(NamedTuple):
    """The constants of Adam, AdamW and LAMB; ``weight_decay`` is L2, and for LAMB part of the direction."""

    beta_1: float
    beta_2: float
    eps: float
    weight_decay: float


class RmspropOptions(NamedTuple):
    """The constants of RMSprop; ``alpha`` is the share of the running means that stays."""

    alpha: float
    momentum: float
    eps: float
    weight_decay: float
