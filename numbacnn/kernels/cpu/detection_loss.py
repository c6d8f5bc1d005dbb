"""The loss of a one-stage detector and its gradient, cell by cell of its grid."""

import numpy as np
from numba import prange, types

from numbacnn.kernels.cpu.losses import label_pixel
from numbacnn.kernels.cpu.simd.math import vectorizable
from numbacnn.kernels.cpu.simd.memory import address, floats
from numbacnn.kernels.cpu.views import pixel
from numbacnn.kernels.formulas.losses import binary_cross_entropy, smooth_l1
from numbacnn.kernels.jit import cpu_kernel, float32_1d, float32_2d, float32_4d, inlined
from numbacnn.kernels.registry import launcher
from numbacnn.kernels.scalar import HALF, ONE, ZERO

float32 = types.float32
presence_loss, edge_loss = (vectorizable(f) for f in (binary_cross_entropy, smooth_l1))
UNWEIGHTED = (ONE,)
EDGES, CLASSES = 5, 5  # presence and the four numbers of a box are the channels before 5


@launcher
@cpu_kernel(float32_1d, float32_4d, float32_4d, float32_4d, float32_2d, float32, float32, float32)
def detection(losses, dx, x, target, class_weights, box_weight, beta, scale):
    """losses[i] = BCE(presence) + [an object there] · (box_weight · Σ smooth_l1(box) + cross-entropy(classes)).

    For each cell i = (n, h, w), x has a logit of presence, the four numbers of a box, and a logit for each class;
    target, N×H×W×6, has 1 or 0, the four numbers, and the class. smooth_l1 is d²/(2·beta) where |d| ≤ beta, else
    |d| − beta/2 (Girshick 2015, "Fast R-CNN", equation 3). class_weights: 1×C, as in ``cross_entropy_labels``.
    dx = scale · the gradient of the sum. Each thread owns a range of rows (n, h).
    """
    for row in prange(x.shape[0] * x.shape[1]):
        for w in range(x.shape[2]):
            i = np.intp(row) * x.shape[2] + w
            cell, truth, slope = pixel(x, row, w), pixel(target, row, w), pixel(dx, row, w)
            losses[i] = _presence(slope, cell, truth, scale)
            if truth[0] > HALF:
                losses[i] += box_weight * _box(slope, cell, truth, beta, scale * box_weight)
                classes = len(cell) - CLASSES
                losses[i] += label_pixel(
                    floats(address(slope) + 4 * CLASSES, classes),
                    floats(address(cell) + 4 * CLASSES, classes),
                    np.intp(truth[EDGES]),
                    class_weights,
                    scale,
                )
            else:
                for c in range(1, len(slope)):
                    slope[c] = ZERO


@inlined
def _presence(dx, x, target, scale):
    loss, slope = presence_loss(x[0], target[0], UNWEIGHTED, 0)
    dx[0] = scale * slope
    return loss


@inlined
def _box(dx, x, target, beta, scale):
    total = ZERO
    for c in range(1, EDGES):
        loss, slope = edge_loss(x[c] - target[c], beta)
        total += loss
        dx[c] = scale * slope
    return total
