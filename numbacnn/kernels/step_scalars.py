"""What kernels are told of one training step, on any device; and what a device keeps that runs steps by itself."""

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
    eps: float
    weight_decay: float = 0.0
    keep: float = 1.0


class RmspropStep(NamedTuple):
    """A step of RMSprop; ``alpha`` is the share of the running mean of g² that stays."""

    learning_rate: float
    alpha: float
    momentum: float
    eps: float
    weight_decay: float


# -- steps that the host does not drive -------------------------------------------------------------------------------


class StepForm(NamedTuple):
    """What all steps of one form have in common: their ``images``; how many batches make an update (``accumulate``);
    whether these ``update``; and whether batches with NaN or infinity are left out, and counted (``skips``), or end the
    training."""

    images: int
    accumulate: int
    updates: int
    skips: int


class Tally(NamedTuple):
    """How far an epoch has come on the device, int64: its ``step`` that is next; ``updates`` made, and the number of
    the last one in the epoch; ``hits`` among ``labels``, and ``images``, of batches that counted; batches ``skipped``;
    images whose gradients are ``held`` for the next update; and the first ``bad_step``, that ended it, or −1."""

    step: int = 0
    updates: int = 0
    last_update: int = -1
    hits: int = 0
    labels: int = 0
    images: int = 0
    skipped: int = 0
    held: int = 0
    bad_step: int = -1


# Rows of SUM_GROUPS partial sums of a step: of the gradients' squares, of hits, of labels that count among these, and
# from there of losses and penalties.
SQUARES_ROW, HITS_ROW, COUNTED_ROW, LOSS_ROWS = range(4)

# What the device finds of a step, float32: 1 where its numbers are finite, else 0; what the new gradients and those
# held are multiplied with in the mean of both; and the share of the new weights in their average, 0 without an update.
VERDICT = 4
GOOD, NEW_SHARE, HELD_SHARE, AVERAGE_SHARE = range(VERDICT)
