"""The loss of a one-stage detector and its gradient. Each cell of the grid has a row of channels."""

import numpy as np
from numba import types

from numbacnn.kernels.cuda.losses import label_loss
from numbacnn.kernels.cuda.runtime.intrinsics import cuda, device_function, scalar_function
from numbacnn.kernels.cuda.runtime.jit import cuda_kernel, float32_1d, float32_2d, float32_4d, over
from numbacnn.kernels.cuda.softmax import team_pixel
from numbacnn.kernels.formulas.losses import binary_cross_entropy, smooth_l1
from numbacnn.kernels.registry import launcher
from numbacnn.kernels.scalar import HALF, ONE, ZERO

float32 = types.float32
presence_loss, edge_loss = scalar_function(binary_cross_entropy), scalar_function(smooth_l1)
CLASSES = 5  # the first channel of the classes, after presence and the four numbers of the box
UNWEIGHTED = (ONE,)


@launcher
def detection(losses, dx, x, target, class_weights, box_weight, beta, scale):
    """losses[i] = BCE(presence) + [an object there] · (box_weight · Σ smooth_l1(box) + cross-entropy(classes)).

    For each cell i = (n, h, w), x has a logit of presence, the four numbers of a box, and a logit for each class;
    target, N×H×W×6, has 1 or 0, the four numbers, and the class. smooth_l1 is d²/(2·beta) if |d| ≤ beta, else
    |d| − beta/2 (Girshick 2015, "Fast R-CNN", equation 3). class_weights: 1×C, as in ``cross_entropy_labels``. dx =
    scale · the gradient of the sum.
    """
    _detection[over(losses.size)](losses, dx, x, target, class_weights, box_weight, beta, scale)


@cuda_kernel(float32_1d, float32_4d, float32_4d, float32_4d, float32_2d, float32, float32, float32)
def _detection(losses, dx, x, target, class_weights, box_weight, beta, scale):
    """Each thread owns a cell."""
    shared = cuda.shared.array(1, float32)  # a team of one needs none
    pixel = team_pixel(x, 1)
    i, n, h, w, _, _, valid = pixel
    if valid:
        loss, slope = presence_loss(x[n, h, w, 0], target[n, h, w, 0], UNWEIGHTED, 0)
        dx[n, h, w, 0] = scale * slope
        if target[n, h, w, 0] > HALF:
            loss += box_weight * _box(dx, x, target, pixel, beta, scale * box_weight)
            label = np.int64(target[n, h, w, CLASSES])
            loss += label_loss(shared, dx, x, pixel, CLASSES, label, class_weights, scale)
        else:
            for c in range(1, x.shape[3]):
                dx[n, h, w, c] = ZERO
        losses[i] = loss


@device_function
def _box(dx, x, target, pixel, beta, scale):
    _, n, h, w, _, _, _ = pixel
    total = ZERO
    for c in range(1, CLASSES):
        loss, slope = edge_loss(x[n, h, w, c] - target[n, h, w, c], beta)
        total += loss
        dx[n, h, w, c] = scale * slope
    return total
