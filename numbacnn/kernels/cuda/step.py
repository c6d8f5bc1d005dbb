"""Launchers of a training step besides forward and backward: batches, sums, and the decision on the update.

In the device loop, arguments are the same in every step, so that launches are captured once and replayed. Numbers that
change are stored in device memory: see ``kernels.decision``.
"""

import numpy as np
from numba import types

from numbacnn.kernels.cuda.elementwise import uint8_2d
from numbacnn.kernels.cuda.group_sums import ADDING_THREADS, float64_1d, float64_2d, group_sums, row_sum
from numbacnn.kernels.cuda.runtime.intrinsics import cuda, device_function
from numbacnn.kernels.cuda.runtime.jit import (
    cuda_kernel,
    float32_1d,
    float32_2d,
    float32_3d,
    int64,
    int64_1d,
    over,
    over_rows,
    overloaded_kernel,
    row_loop,
)
from numbacnn.kernels.cuda.update import scale_by
from numbacnn.kernels.decision import (
    CORRECT_ROW,
    COUNTED_ROW,
    LOSS_ROWS,
    SQUARES_ROW,
    STEP,
    SUM_GROUPS,
    StepForm,
    StepTotals,
    decide,
    set_scalars,
)
from numbacnn.kernels.registry import launcher

float32, float64 = types.float32, types.float64
int64_2d, uint64_1d = types.Array(int64, 2, "C"), types.Array(types.uint64, 1, "C")
float64_3d = types.Array(float64, 3, "C")


# -- the batch --------------------------------------------------------------------------------------------------------


@launcher
def take_indices(indices, order, counters, batch_size):
    """indices[i] = order[step · batch_size + i], the images of step ``counters[STEP]``."""
    _take_indices[over(indices.size)](indices, order, counters, batch_size)


@cuda_kernel(int64_1d, int64_1d, int64_1d, int64)
def _take_indices(indices, order, counters, batch_size):
    i = cuda.grid(1)
    if i < indices.size:
        indices[i] = order[counters[STEP] * batch_size + i]


@launcher
def gather_rows(y, x, indices):
    """y[i] = x[indices[i]]. y: n×M, float32 or int64; x: N×M, of the same type or bytes."""
    _gather_rows[over(y.size)](y, x, indices)


@overloaded_kernel((float32_2d, float32_2d, int64_1d), (int64_2d, int64_2d, int64_1d), (int64_2d, uint8_2d, int64_1d))
def _gather_rows(y, x, indices):
    """Each thread owns an element."""
    item = cuda.grid(1)
    n, i = item // y.shape[1], item % y.shape[1]
    if n < len(y):
        y[n, i] = x[indices[n], i]


@launcher
def gather_images(y, x, indices, scale, shift):
    """y[i] = x[indices[i]] · scale + shift. y: n×H×W×C; x: N·H × W·C, bytes or float32; scale, shift: W·C."""
    rows = y.rows()
    _gather_images[over_rows(rows)](rows, x, indices, scale, shift)


@overloaded_kernel(*((float32_3d, pixels, int64_1d, float32_1d, float32_1d) for pixels in (uint8_2d, float32_2d)))
def _gather_images(y, x, indices, scale, shift):
    """Each thread owns elements of a row of an image."""
    n, h, i, stride = row_loop(y.shape[1])
    if n < len(y):
        row = indices[n] * y.shape[1] + h
        while i < y.shape[2]:
            y[n, h, i] = np.float32(x[row, i]) * scale[i] + shift[i]
            i += stride


# -- sums and the decision --------------------------------------------------------------------------------------------


@launcher
def sum_losses(partial, losses, scale):
    """Σ partial = scale · Σ losses; a partial sum for each of SUM_GROUPS ranges."""
    _loss(partial, losses.size, losses, scale)


@group_sums(float32_1d, float64)
def _loss(i, losses, scale):
    return scale * np.float64(losses[i])


@launcher
def divide_by_label_weights(partial, dx, weights, weight):
    """Multiply the sums of a loss and its gradient dx by weight / Σ weights[0], or by 0 if that sum is 0.

    weights: 2 × SUM_GROUPS; weights[1, 0] becomes the factor.
    """
    _mean_factor[1, ADDING_THREADS](partial, weights, weight)
    scale_by([dx], [dx], constants=[weights[1]])


@cuda_kernel(float64_1d, float64_2d, float64)
def _mean_factor(partial, weights, weight):
    """One block. weights[1, 0] is the factor of dx."""
    shared = cuda.shared.array(ADDING_THREADS, float64)
    total, i = row_sum(shared, weights, 0), cuda.threadIdx.x
    factor = weight / total if total > 0 else 0.0
    while i < SUM_GROUPS:
        partial[i] *= factor
        i += cuda.blockDim.x
    if cuda.threadIdx.x == 0:
        weights[1, 0] = factor


@launcher
def decide_update(counters, sums, random, decision, scalars, partial, rates, numbers, form):
    """Decide whether the update is applied, and its numbers; see ``decide`` and ``set_scalars``.

    partial: the rows of sums of ``kernels.decision``; random: (seed, step) of the layers' random numbers, advanced.
    """
    _decide_update[1, ADDING_THREADS](counters, sums, random, decision, scalars, partial, rates, numbers, form)


_decide, _set_scalars, _totals = device_function(decide), device_function(set_scalars), StepTotals


@cuda_kernel(
    int64_1d, float64_1d, uint64_1d, float64_1d, float64_2d, float64_2d, float64_2d, float64_3d, StepForm
)  # fmt: skip
def _decide_update(counters, sums, random, decision, scalars, partial, rates, numbers, form):
    """One block; all threads add, the first one decides."""
    shared = cuda.shared.array(ADDING_THREADS, float64)
    squares, loss = row_sum(shared, partial, SQUARES_ROW), 0.0
    correct, counted = row_sum(shared, partial, CORRECT_ROW), row_sum(shared, partial, COUNTED_ROW)
    for row in range(LOSS_ROWS, len(partial)):
        loss += row_sum(shared, partial, row)
    if cuda.threadIdx.x == 0:
        _decide(counters, sums, decision, rates, _totals(squares, loss, correct, counted), form)
        _set_scalars(scalars, counters, decision, rates, numbers)
        random[1] += np.uint64(1)
