"""The loss of a one-stage detector with its gradient: cell by cell, one row of channels for each cell of a grid."""

import math

import numpy as np
from numba import prange, types

from numbacnn.kernels.cpu import maths
from numbacnn.kernels.cpu.losses import ZERO, label_row, softplus
from numbacnn.kernels.cpu.memory import address, floats
from numbacnn.kernels.cpu.softmax import pixel
from numbacnn.kernels.jit import cpu_kernel, float32_1d, float32_2d, float32_4d, inlined

float32 = types.float32
HALF, ONE = np.float32(0.5), np.float32(1)
EDGES, CLASSES = 5, 5  # the channels before 5 are presence and the four numbers of a box


@cpu_kernel(float32_1d, float32_4d, float32_4d, float32_4d, float32_2d, float32, float32, float32)
def detection(losses, dx, x, target, class_weights, box_weight, beta, scale):
    """losses[i] = BCE(presence) + [an object there] · (box_weight · Σ smooth_l1(box) + cross-entropy(classes)).

    Of each cell i = (n, h, w): x has a logit of presence, the four numbers of a box, and a logit for each class; target
    has 1 or 0, the numbers, and the class, N×H×W×6. smooth_l1 is d²/(2·beta) where |d| ≤ beta, else |d| − beta/2
    (Girshick 2015, "Fast R-CNN", equation 3). class_weights: 1×C, as ``cross_entropy_labels`` has them. dx = scale ·
    the gradient of the sum. Each thread owns a range of rows (n, h).
    """
    for row in prange(x.shape[0] * x.shape[1]):
        for w in range(x.shape[2]):
            i = np.intp(row) * x.shape[2] + w
            cell, wanted, slope = pixel(x, row, w), pixel(target, row, w), pixel(dx, row, w)
            losses[i] = _presence(slope, cell, wanted, scale)
            if wanted[0] > HALF:
                losses[i] += box_weight * _box(slope, cell, wanted, beta, scale * box_weight)
                classes = len(cell) - CLASSES
                losses[i] += label_row(
                    floats(address(slope) + 4 * CLASSES, classes),
                    floats(address(cell) + 4 * CLASSES, classes),
                    np.intp(wanted[EDGES]),
                    class_weights,
                    scale,
                )
            else:
                for c in range(1, len(slope)):
                    slope[c] = ZERO


@inlined
def _presence(dx, x, target, scale):
    logit, present = x[0], target[0]
    e = maths.exp(-abs(logit))
    larger, smaller = ONE / (ONE + e), e / (ONE + e)
    yes, no = (larger, smaller) if logit >= ZERO else (smaller, larger)
    dx[0] = scale * ((ONE - present) * yes - present * no)
    return present * softplus(-logit, e) + (ONE - present) * softplus(logit, e)


@inlined
def _box(dx, x, target, beta, scale):
    total = ZERO
    for c in range(1, EDGES):
        d = x[c] - target[c]
        size = abs(d)
        if size <= beta:
            total += HALF * d * d / beta
            dx[c] = scale * d / beta
        else:
            total += size - HALF * beta
            dx[c] = math.copysign(scale, d)
    return total
