"""What optimisers tell their kernels of one step, on any device."""

from typing import NamedTuple

SUM_GROUPS = 64  # partial sums of a norm: their number is fixed, so that their order is


class AdamStep(NamedTuple):
    """Step t of Adam, AdamW or LAMB. ``step_size``: learning_rate / (1 − β₁ᵗ), for LAMB without the learning rate;
    ``correction``: 1 / √(1 − β₂ᵗ); ``weight_decay``: L2, for LAMB added to the direction; ``keep``: the share of w
    that decoupled weight decay leaves.
    """

    step_size: float
    beta_1: float
    beta_2: float
    correction: float
    epsilon: float
    weight_decay: float = 0.0
    keep: float = 1.0


class RmspropStep(NamedTuple):
    """A step of RMSprop; ``alpha`` is the share of the running mean of g² that stays."""

    learning_rate: float
    alpha: float
    momentum: float
    epsilon: float
    weight_decay: float
