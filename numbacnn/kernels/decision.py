"""The decision on a training step, whether its update is applied, as the same function on every device.

The loop's state is kept in small arrays on the device: ``counters`` (``EpochCounters`` as int64), ``sums`` (the loss
times its images, and the loss of a step that ended the training) and ``decision`` (float64), indexed by the constants
below. ``partial`` holds SUM_GROUPS partial sums for each of its rows.
"""

from typing import NamedTuple

from numbacnn.kernels.step_scalars import SUM_GROUPS as SUM_GROUPS


class StepForm(NamedTuple):
    """The constants of a step: images of the batch (``images``), batches for each update (``accumulate``), whether the
    step ``updates`` the weights, and whether a batch with NaN or infinity is skipped (``skips``) or ends the training.
    """

    images: int
    accumulate: int
    updates: int
    skips: int


class EpochCounters(NamedTuple):
    """The progress of an epoch.

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


STEP, UPDATES, LAST_UPDATE, CORRECT, LABELS, IMAGES, SKIPPED, ACCUMULATED, BAD_STEP = range(len(EpochCounters._fields))
LOSS, BAD_LOSS = range(2)  # of ``sums``

# Rows of ``partial``: the squares of the gradients, correct predictions, labels that are not ignored; then the losses
# and penalties.
SQUARES_ROW, CORRECT_ROW, COUNTED_ROW, LOSS_ROWS = range(4)

# Of ``decision``: whether the step's numbers are finite, and whether its update is applied, 1 or 0; the factors of the
# new and of the accumulated gradients in their mean; and the new weights' share in their moving average.
DECISION = 5
GOOD, APPLIED, NEW_SHARE, ACCUMULATED_SHARE, AVERAGE_SHARE = range(DECISION)


class StepTotals(NamedTuple):
    """The totals of ``partial``."""

    squares: float
    loss: float
    correct: float
    counted: float


def decide(counters, sums, decision, rates, totals, form):
    """Decide whether the update is applied, update the counters, and advance to the next step.

    A step with a finite loss and finite gradients is added to ``counters`` and ``sums``. Any other step is skipped, or
    ends the training: then no later step changes anything. rates: the factor of the learning rate and the new weights'
    share in their average, for each update of the epoch.
    """
    finite = totals.squares - totals.squares == 0 and totals.loss - totals.loss == 0
    if not finite and form.skips == 0 and counters[BAD_STEP] < 0:
        counters[BAD_STEP] = counters[STEP]
        sums[BAD_LOSS] = totals.loss
    running = counters[BAD_STEP] < 0
    good = finite and running
    images = form.images if good else 0
    if good:
        sums[LOSS] += totals.loss * images
        counters[CORRECT] += int(totals.correct)
        counters[LABELS] += int(totals.counted)
        counters[IMAGES] += images
    elif running:
        counters[SKIPPED] += 1
    accumulated = counters[ACCUMULATED]
    total = accumulated + images
    applied = form.updates != 0 and running and total > 0
    update = counters[STEP] // form.accumulate
    decision[GOOD], decision[APPLIED] = 1.0 if good else 0.0, 1.0 if applied else 0.0
    decision[NEW_SHARE] = images / total if applied else 1.0 * images
    decision[ACCUMULATED_SHARE] = 0.0 if accumulated == 0 else 1 / total if applied else 1.0
    decision[AVERAGE_SHARE] = rates[update, 1] if applied else 0.0
    if applied:
        counters[UPDATES] += 1
        counters[LAST_UPDATE] = update
    if running:
        counters[ACCUMULATED] = 0 if form.updates != 0 or form.accumulate == 1 else total
    counters[STEP] += 1


def set_scalars(scalars, counters, decision, rates, numbers):
    """Write the numbers of the update just decided, for each of the optimizer's groups: scalars, groups × (1 + K).

    scalars[g, 0] is whether it is applied; the others are a + s·b, with a = numbers[u, 2g], b = numbers[u, 2g + 1] for
    the u-th update since the tables were written, and s = rates[v, 0] for update v of the epoch, skipped ones included.
    """
    applied = decision[APPLIED] != 0
    for group in range(len(scalars)):
        scalars[group, 0] = 1 if applied else 0
        for k in range(1, scalars.shape[1] if applied else 0):
            u, scale = counters[UPDATES] - 1, rates[counters[LAST_UPDATE], 0]
            scalars[group, k] = numbers[u, 2 * group, k - 1] + scale * numbers[u, 2 * group + 1, k - 1]
