"""Operations on flat arrays that apply the decision on a training step (``kernels.decision``)."""

import math

import numpy as np

from numbacnn.kernels.decision import ACCUMULATED_SHARE, AVERAGE_SHARE, GOOD, NEW_SHARE
from numbacnn.kernels.formulas.formula import Entries, elementwise
from numbacnn.kernels.scalar import ONE, ZERO

decision = Entries("decision")
new_share, accumulated_share = decision[NEW_SHARE], decision[ACCUMULATED_SHARE]


@elementwise("y", flat=True)
def restore_unless_good(y, x, good: decision[GOOD]):
    """y = x unless the step is good."""
    return x if good == 0 else y


@elementwise("accumulated", flat=True)
def accumulate_gradients(accumulated, gradients, new: new_share, kept: accumulated_share):
    """accumulated = kept·accumulated + new·gradients; a share of 0 drops its array, NaN included."""
    a, b = np.float32(new), np.float32(kept)
    kept_part = b * accumulated if b != ZERO else ZERO
    return math.fma(a, gradients, kept_part) if a != ZERO else kept_part


@elementwise("gradients", flat=True)
def average_gradients(gradients, accumulated, new: new_share, kept: accumulated_share):
    """gradients = new·gradients + kept·accumulated; a share of 0 drops its array, NaN included."""
    a, b = np.float32(new), np.float32(kept)
    added = a * gradients if a != ZERO else ZERO
    return math.fma(b, accumulated, added) if b != ZERO else added


@elementwise("y", flat=True)
def average_weights(y, x, share: decision[AVERAGE_SHARE]):
    """y += share · (x − y): if the two are equal, y keeps every bit; if share is 1, y = x."""
    s = np.float32(share)
    return x if s == ONE else y + s * (x - y)
