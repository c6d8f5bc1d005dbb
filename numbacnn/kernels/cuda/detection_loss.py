"""The loss of a one-stage detector with its gradient, cell by cell: one row of channels for each cell of a grid."""

import numpy as np
from numba import types

from numbacnn.kernels.cuda.lanes import pixel_part
from numbacnn.kernels.cuda.losses import label_loss
from numbacnn.kernels.cuda.runtime.intrinsics import cuda, device_function, scalar_function
from numbacnn.kernels.cuda.runtime.jit import cuda_kernel, float32_1d, float32_2d, float32_4d, over
from numbacnn.kernels.formulas.losses import binary_cross_entropy, smooth_l1
from numbacnn.kernels.registry import launcher
from numbacnn.kernels.scalar import HALF, ONE, ZERO

float32 = types.float32
presence_loss, edge_loss = scalar_function(binary_cross_entropy), scalar_function(smooth_l1)
EDGES, CLASSES = 5, 5  # the channels before 5 are presence and the four numbers of a box
UNWEIGHTED = (ONE,)


@launcher
def detection(losses, dx, x, target, class_weights, box_weight, beta, scale):
    """losses[i] = BCE(presence) + [an object there] · (box_weight · Σ smooth_l1(box) + cross-entropy(classes)).

    Of each cell i = (n, h, w): x has a logit of presence, the four numbers of a box, and a logit for each class; target
    has 1 or 0, the numbers, and the class, N×H×W×6. smooth_l1 is d²/(2·beta) where |d| ≤ beta, else |d| − beta/2
    (Girshick 2015, "Fast R-CNN", equation 3). class_weights: 1×C, as ``cross_entropy_labels`` has them. dx = scale ·
    the gradient of the sum.
    """
    _detection[over(losses.size)](losses, dx, x, target, class_weights, box_weight, beta, scale)


@cuda_kernel(float32_1d, float32_4d, float32_4d, float32_4d, float32_2d, float32, float32, float32)
def _detection(losses, dx, x, target, class_weights, box_weight, beta, scale):
    """Each thread owns a cell."""
    shared = cuda.shared.array(1, float32)  # a team of one needs none
    n, h, w, _ = pixel_part(x.shape[1], x.shape[2], 1)
    if n < len(x):
        loss, slope = presence_loss(x[n, h, w, 0], target[n, h, w, 0], UNWEIGHTED, 0)
        dx[n, h, w, 0] = scale * slope
        if target[n, h, w, 0] > HALF:
            loss += box_weight * _box(dx, x, target, n, h, w, beta, scale * box_weight)
            label = np.int64(target[n, h, w, EDGES])
            loss += label_loss(shared, dx, x, n, h, w, CLASSES, 0, label, class_weights, scale, 1, True)
        else:
            for c in range(1, x.shape[3]):
                dx[n, h, w, c] = ZERO
        losses[cuda.grid(1)] = loss


@device_function
def _box(dx, x, target, n, h, w, beta, scale):
    total = ZERO
    for c in range(1, EDGES):
        loss, slope = edge_loss(x[n, h, w, c] - target[n, h, w, c], beta)
        total += loss
        dx[n, h, w, c] = scale * slope
    return total
