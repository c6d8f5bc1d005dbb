"""Launchers for labels: their transformation with augmented images, targets of losses, and correct predictions.

Labels are int64, a class for each image or pixel, or float32 N×C, the probabilities of the classes, or boxes N×M×5 as
in ``numbacnn.detection``. ``partial`` holds a row of SUM_GROUPS partial sums for each quantity.
"""

import numpy as np
from numba import types

from numbacnn.kernels.cuda.augment import mix_in_place, source
from numbacnn.kernels.cuda.detection_loss import CLASSES
from numbacnn.kernels.cuda.group_sums import float64_1d, group_sums, two_group_sums
from numbacnn.kernels.cuda.reduce import block_sum, team_max
from numbacnn.kernels.cuda.runtime.intrinsics import cuda, device_function, device_math
from numbacnn.kernels.cuda.runtime.jit import (
    THREADS,
    cuda_kernel,
    float32_1d,
    float32_2d,
    float32_4d,
    int64,
    int64_1d,
    over,
    overloaded_kernel,
    unravel,
)
from numbacnn.kernels.registry import launcher
from numbacnn.kernels.scalar import HALF, ONE, ZERO

float32 = types.float32
float32_3d = types.Array(float32, 3, "C")
NO_BOX = np.float32(-1)  # the class in rows without a box, ``numbacnn.detection.PADDING``
TWO = np.float32(2)


# -- labels of transformed images -------------------------------------------------------------------------------------


@launcher
def convert(y, x):
    """y = x in another type: int64 to float32, or float32 to int64, which truncates. y, x: of equal shape."""
    _convert[over(y.size)](y.reshape(-1), x.reshape(-1))


@overloaded_kernel((float32_1d, int64_1d), (int64_1d, float32_1d))
def _convert(y, x):
    """Each thread owns an element."""
    i = cuda.grid(1)
    if i < y.size:
        y[i] = x[i]


@launcher
def mix_labels(labels, theirs, shares):
    """labels = (1 − share) · labels + share · theirs for each image. labels, theirs: N×…×C; shares: N."""
    mix_in_place(*(array.reshape(len(shares), 1, 1, -1) for array in (labels, theirs)), shares)


@launcher
def move_boxes(y, x, matrices, field, height, width, min_visible):
    """Move boxes N×M×5 with their warped images H×W: each becomes the bounding box of the pixels that come from it.

    A box is dropped, and becomes zeros, unless more than the fraction ``min_visible`` of it stays.
    """
    images, rows, _ = x.shape
    _move_boxes[images * rows, THREADS](y, x, matrices, field, height, width, min_visible)


@cuda_kernel(float32_3d, float32_3d, float32_2d, float32_2d, int64, int64, float32)
def _move_boxes(y, x, matrices, field, height, width, min_visible):
    """Each block owns a box, and each thread pixels of its image."""
    shared = cuda.shared.array(THREADS, float32)
    n, row = cuda.blockIdx.x // x.shape[1], cuda.blockIdx.x % x.shape[1]
    left, top, right, bottom = x[n, row, 0], x[n, row, 1], x[n, row, 2], x[n, row, 3]
    beyond = np.float32(-(height + width))
    count, first_w, first_h, last_w, last_h = ZERO, beyond, beyond, beyond, beyond
    i = cuda.threadIdx.x
    while i < height * width:
        h, w = i // width, i % width
        down, across = source(n, h, w, width, matrices, field)
        if left <= across + HALF < right and top <= down + HALF < bottom:
            count += ONE
            first_w, last_w = max(first_w, np.float32(-w)), max(last_w, np.float32(w + 1))
            first_h, last_h = max(first_h, np.float32(-h)), max(last_h, np.float32(h + 1))
        i += cuda.blockDim.x
    team = cuda.blockDim.x
    count = block_sum(shared, count)
    first_w, last_w = team_max(shared, first_w, team), team_max(shared, last_w, team)
    first_h, last_h = team_max(shared, first_h, team), team_max(shared, last_h, team)
    if cuda.threadIdx.x == 0:
        shrinkage = abs(matrices[n, 0] * matrices[n, 4] - matrices[n, 1] * matrices[n, 3])
        kept = count > min_visible * ((right - left) * (bottom - top)) / shrinkage
        y[n, row, 0], y[n, row, 1] = -first_w if kept else ZERO, -first_h if kept else ZERO
        y[n, row, 2], y[n, row, 3] = last_w if kept else ZERO, last_h if kept else ZERO
        y[n, row, 4] = x[n, row, 4] if kept else NO_BOX


# -- targets ----------------------------------------------------------------------------------------------------------


@launcher
def one_hot(y, labels):
    """y[i, c] = 1 if c is label i, else 0; the label itself if there is one channel. y: n×C; labels: n."""
    _one_hot[over(y.size)](y, labels)


@cuda_kernel(float32_2d, int64_1d)
def _one_hot(y, labels):
    """Each thread owns an element."""
    item, channels = cuda.grid(1), y.shape[1]
    i, c = item // channels, item % channels
    if i < len(y):
        y[i, c] = np.float32(labels[i]) if channels == 1 else ONE if labels[i] == c else ZERO


@launcher
def encode_boxes(y, boxes, height, width):
    """The target of each cell of a detector's grid, n×h×w×6, from boxes in images H×W; see ``tasks.detection``.

    If the centers of several boxes are in one cell, the smallest is encoded, and of equal ones the last.
    """
    _encode_boxes[over(y.size // y.shape[3])](y, boxes, np.float32(height / y.shape[1]), np.float32(width / y.shape[2]))


@cuda_kernel(float32_4d, float32_3d, float32, float32)
def _encode_boxes(y, boxes, cell_height, cell_width):
    """Each thread owns a cell."""
    _, height, width, channels = y.shape
    n, h, w, _ = unravel(cuda.grid(1), height, width, 1)
    if n < len(y):
        for c in range(channels):
            y[n, h, w, c] = ZERO
        smallest = ZERO
        for row in range(boxes.shape[1]):
            x_0, y_0, x_1, y_1 = boxes[n, row, 0], boxes[n, row, 1], boxes[n, row, 2], boxes[n, row, 3]
            across, down = (x_0 + x_1) / (TWO * cell_width), (y_0 + y_1) / (TWO * cell_height)
            sides_w, sides_h = (x_1 - x_0) / cell_width, (y_1 - y_0) / cell_height
            here = min(int(across), width - 1) == w and min(int(down), height - 1) == h
            if boxes[n, row, 4] != NO_BOX and here and (y[n, h, w, 0] == ZERO or sides_w * sides_h <= smallest):
                smallest = sides_w * sides_h
                y[n, h, w, 0] = ONE
                y[n, h, w, 1], y[n, h, w, 2] = across - np.float32(w) - HALF, down - np.float32(h) - HALF
                y[n, h, w, 3], y[n, h, w, 4] = device_math.log(sides_w), device_math.log(sides_h)
                y[n, h, w, 5] = boxes[n, row, 4]


# -- weighted means ---------------------------------------------------------------------------------------------------


@launcher
def sum_label_weights(partial, labels, weights, ignored):
    """Σ partial = Σ weights[label] over the labels that are not ``ignored``. weights: C."""
    _label_weight(partial, labels.size, labels, weights, ignored)


@group_sums(int64_1d, float64_1d, int64)
def _label_weight(i, labels, weights, ignored):
    return weights[labels[i]] if labels[i] != ignored else 0.0


# -- correct predictions ----------------------------------------------------------------------------------------------


@launcher
def count_correct(partial, x, labels, ignored):
    """Σ partial[0] = pixels whose maximum in x, the first of equals, is at their label; Σ partial[1] = labels.

    Labels that are ``ignored`` do not count. x: N×H×W×C.
    """
    _count_label(partial, labels.size, x, labels, ignored)


@two_group_sums(float32_4d, int64_1d, int64)
def _count_label(i, x, labels, ignored):
    counts = labels[i] != ignored
    return 1.0 if counts and _top1(x, i, 0) == labels[i] else 0.0, 1.0 if counts else 0.0


@launcher
def count_correct_top1(partial, x, shares):
    """``count_correct`` with the class of the largest of ``shares``, N×1×1×C, the first of equals, as the label."""
    _count_top1(partial, len(shares), x, shares)


@two_group_sums(float32_4d, float32_4d)
def _count_top1(i, x, shares):
    return 1.0 if _top1(x, i, 0) == _top1(shares, i, 0) else 0.0, 1.0


@launcher
def count_correct_objects(partial, x, target):
    """``count_correct`` of the classes in a detector's cells, over those with an object in the target."""
    _count_object(partial, target.size // target.shape[3], x, target)


@two_group_sums(float32_4d, float32_4d)
def _count_object(i, x, target):
    n, h, w, _ = unravel(i, target.shape[1], target.shape[2], 1)
    counts = target[n, h, w, 0] > ZERO
    correct = counts and _top1(x, i, CLASSES) == int(target[n, h, w, CLASSES])
    return 1.0 if correct else 0.0, 1.0 if counts else 0.0


@device_function
def _top1(x, i, first):
    """The index of the largest channel of pixel i, from channel ``first`` on; the first of equals."""
    n, h, w, _ = unravel(i, x.shape[1], x.shape[2], 1)
    best, largest = first, x[n, h, w, first]
    for c in range(first + 1, x.shape[3]):
        if x[n, h, w, c] > largest:
            best, largest = c, x[n, h, w, c]
    return best - first
