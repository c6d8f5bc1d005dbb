"""The numbers of one training step as kernels take them, and the counters and decisions of a loop on the device."""

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


# -- the device loop --------------------------------------------------------------------------------------------------


class StepForm(NamedTuple):
    """The constants of a recorded step: images per batch (``images``), batches per update (``accumulate``), whether the
    step ``updates`` the weights, and whether a batch with NaN or infinity is skipped (``skips``) or ends the training.
    """

    images: int
    accumulate: int
    updates: int
    skips: int


class EpochCounters(NamedTuple):
    """The progress of an epoch on the device, as int64.

    Attributes:
        step: the next step.
        updates: updates made since the counters were written.
        last_update: the number of the last update in the epoch, or −1.
        correct: correct predictions among ``labels``, over batches that were not skipped.
        images: images of those batches.
        skipped: skipped batches.
        accumulated: images whose gradients wait for the next update.
        bad_step: the step that ended the training, or −1.
    """

    step: int = 0
    updates: int = 0
    last_update: int = -1
    correct: int = 0
    labels: int = 0
    images: int = 0
    skipped: int = 0
    accumulated: int = 0
    bad_step: int = -1


# Rows of SUM_GROUPS partial sums of a step: the gradients' squares, correct predictions, labels that are not ignored,
# and from LOSS_ROWS on the losses and penalties.
SQUARES_ROW, CORRECT_ROW, COUNTED_ROW, LOSS_ROWS = range(4)

# The decision on a step, float32: 1 if its numbers are finite, else 0; the factors of the new and of the accumulated
# gradients in the mean of both; and the share of the new weights in their moving average, 0 without an update.
DECISION = 4
GOOD, NEW_SHARE, ACCUMULATED_SHARE, AVERAGE_SHARE = range(DECISION)
