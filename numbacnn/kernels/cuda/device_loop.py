"""The parts of a training step besides forward and backward, for the loop that runs on the device: gather a batch from
the data set in device memory, decide whether the step updates the weights, and update them. ``labels`` holds what
becomes of labels. None of these launchers has a CPU twin.

No argument differs from step to step, so that launches can be captured once and replayed. What does differ is stored
in device memory: ``counters`` (``kernels.step_scalars.EpochCounters`` as int64), ``decision`` (see there), and
``scalars``, the numbers of one optimizer update; scalars[0] is 1, or 0 if the step makes no update.
"""

import numpy as np
from numba import types

from numbacnn.kernels.cuda.elements import element_kernel
from numbacnn.kernels.cuda.elementwise import uint8_2d
from numbacnn.kernels.cuda.labels import count_correct as count_correct
from numbacnn.kernels.cuda.labels import count_correct_objects as count_correct_objects
from numbacnn.kernels.cuda.labels import count_correct_top1 as count_correct_top1
from numbacnn.kernels.cuda.labels import encode_boxes as encode_boxes
from numbacnn.kernels.cuda.labels import move_boxes as move_boxes
from numbacnn.kernels.cuda.labels import one_hot as one_hot
from numbacnn.kernels.cuda.labels import sum_label_weights as sum_label_weights
from numbacnn.kernels.cuda.labels import warp_classes as warp_classes
from numbacnn.kernels.cuda.reduce import block_sum
from numbacnn.kernels.cuda.runtime.intrinsics import cuda, device_function
from numbacnn.kernels.cuda.runtime.jit import (
    THREADS,
    cuda_kernel,
    float32_1d,
    float32_2d,
    float32_3d,
    int64,
    int64_1d,
    over,
    over_rows,
    place,
)
from numbacnn.kernels.cuda.update import SUM_THREADS, float64_1d, float64_2d, over_groups, range_of, sum_squares
from numbacnn.kernels.scalar import ONE, ZERO
from numbacnn.kernels.step_scalars import (
    ACCUMULATED_SHARE,
    AVERAGE_SHARE,
    CORRECT_ROW,
    COUNTED_ROW,
    GOOD,
    LOSS_ROWS,
    NEW_SHARE,
    SQUARES_ROW,
    SUM_GROUPS,
    EpochCounters,
    StepForm,
)

float32, float64 = types.float32, types.float64
int64_2d, uint64_1d = types.Array(int64, 2, "C"), types.Array(types.uint64, 1, "C")
float64_3d = types.Array(float64, 3, "C")
STEP, UPDATES, LAST_UPDATE, CORRECT, LABELS, IMAGES, SKIPPED, ACCUMULATED, BAD_STEP = range(len(EpochCounters._fields))
LOSS, BAD_LOSS = range(2)  # of ``sums``
DECIDING_THREADS = min(SUM_GROUPS, THREADS)  # threads of the one block that adds up the groups


# -- the batch --------------------------------------------------------------------------------------------------------


def take_indices(indices, order, counters, batch_size):
    """indices[i] = order[step · batch_size + i]: the images of the step."""
    _take_indices[over(indices.size)](indices, order, counters, batch_size)


@cuda_kernel(int64_1d, int64_1d, int64_1d, int64)
def _take_indices(indices, order, counters, batch_size):
    i = cuda.grid(1)
    if i < indices.size:
        indices[i] = order[counters[STEP] * batch_size + i]


def gather_rows(y, x, indices):
    """y[i] = x[indices[i]], float32, or int64 from int64 or bytes. y: n × M; x: N × M."""
    integers = _gather_small_integers if x.dtype == np.uint8 else _gather_integers
    kernel = integers if y.dtype == np.int64 else _gather_floats
    kernel[over(y.size)](y, x, indices)


@device_function
def _gather(y, x, indices):
    """Each thread owns a number."""
    item = cuda.grid(1)
    n, i = item // y.shape[1], item % y.shape[1]
    if n < len(y):
        y[n, i] = x[indices[n], i]


@cuda_kernel(int64_2d, int64_2d, int64_1d)
def _gather_integers(y, x, indices):
    _gather(y, x, indices)


@cuda_kernel(int64_2d, uint8_2d, int64_1d)
def _gather_small_integers(y, x, indices):
    _gather(y, x, indices)


@cuda_kernel(float32_2d, float32_2d, int64_1d)
def _gather_floats(y, x, indices):
    _gather(y, x, indices)


def gather_images(y, x, indices, scale, shift):
    """y[i] = x[indices[i]] · scale + shift. y: n×H×W×C; x: N·H × W·C, 8-bit or float32; scale, shift: W·C."""
    rows = y.rows()
    kernel = _gather_bytes if x.dtype == np.uint8 else _gather_float_images
    kernel[over_rows(rows)](rows, x, indices, scale, shift)


@device_function
def _gather_image(y, x, indices, scale, shift):
    """Each thread owns numbers of a row of an image."""
    n, h, i, step = place(y.shape[1])
    if n < len(y):
        row = indices[n] * y.shape[1] + h
        while i < y.shape[2]:
            y[n, h, i] = np.float32(x[row, i]) * scale[i] + shift[i]
            i += step


@cuda_kernel(float32_3d, uint8_2d, int64_1d, float32_1d, float32_1d)
def _gather_bytes(y, x, indices, scale, shift):
    _gather_image(y, x, indices, scale, shift)


@cuda_kernel(float32_3d, float32_2d, int64_1d, float32_1d, float32_1d)
def _gather_float_images(y, x, indices, scale, shift):
    _gather_image(y, x, indices, scale, shift)


# -- what the step found ----------------------------------------------------------------------------------------------


def sum_losses(partial, losses, scale):
    """partial[g] = scale · Σ losses over group g of SUM_GROUPS ranges."""
    _sum_losses[over_groups(losses.size)](partial, losses, scale)


@cuda_kernel(float64_1d, float32_1d, float64)
def _sum_losses(partial, losses, scale):
    """Each block owns a group."""
    shared = cuda.shared.array(SUM_THREADS, float64)
    i, last = range_of(losses)
    total = 0.0
    while i < last:
        total += np.float64(losses[i])
        i += cuda.blockDim.x
    total = block_sum(shared, total)
    if cuda.threadIdx.x == 0:
        partial[cuda.blockIdx.x] = scale * total


def take_mean(partial, dx, weights, weight):
    """Has a loss, of which ``partial`` are sums, and its gradient dx, counted as a mean of labels of unlike weights:
    both times ``weight`` over the sum of weights[0], or 0 where that is. weights: 2 × SUM_GROUPS."""
    _mean_factor[1, DECIDING_THREADS](partial, weights, weight)
    _scale_by([dx], [dx], constants=[weights[1]])


@cuda_kernel(float64_1d, float64_2d, float64)
def _mean_factor(partial, weights, weight):
    """One block. weights[1, 0] = what dx is multiplied by."""
    shared = cuda.shared.array(DECIDING_THREADS, float64)
    total, i = _row_sum(shared, weights, 0), cuda.threadIdx.x
    factor = weight / total if total > 0 else 0.0
    while i < SUM_GROUPS:
        partial[i] *= factor
        i += cuda.blockDim.x
    if cuda.threadIdx.x == 0:
        weights[1, 0] = factor


def decide_update(counters, sums, random, decision, scalars, partial, rates, numbers, form):
    """Decide whether the update is applied, update the counters, and advance to the next step.

    partial: rows of SUM_GROUPS partial sums, see ``kernels.step_scalars``. A step with a finite loss and finite
    gradients is added to ``counters``, and its loss times its images to sums[LOSS]. Any other step is skipped, or ends
    the training: then sums[BAD_LOSS] is its loss, and no later step changes anything.

    scalars: rules × (1 + K), written as a + s·b, with a = numbers[u, 2r] and b = numbers[u, 2r + 1] for rule r of the
    u-th update since the tables were written, and s = rates[v, 0] for update v of the epoch, skipped ones included.
    rates[v, 1] becomes the share of the new weights in their average. random: (seed, step) of the layers' random
    numbers.
    """
    _decide_update[1, DECIDING_THREADS](counters, sums, random, decision, scalars, partial, rates, numbers, form)


@cuda_kernel(
    int64_1d, float64_1d, uint64_1d, float32_1d, float64_2d, float64_2d, float64_2d, float64_3d, StepForm
)  # fmt: skip
def _decide_update(counters, sums, random, decision, scalars, partial, rates, numbers, form):
    """One block; all threads add, the first one decides."""
    shared = cuda.shared.array(DECIDING_THREADS, float64)
    squares, loss = _row_sum(shared, partial, SQUARES_ROW), 0.0
    correct, counted = _row_sum(shared, partial, CORRECT_ROW), _row_sum(shared, partial, COUNTED_ROW)
    for row in range(LOSS_ROWS, len(partial)):
        loss += _row_sum(shared, partial, row)
    if cuda.threadIdx.x == 0:
        finite = squares - squares == 0 and loss - loss == 0
        if not finite and not form.skips and counters[BAD_STEP] < 0:
            counters[BAD_STEP] = counters[STEP]
            sums[BAD_LOSS] = loss
        running = counters[BAD_STEP] < 0
        good = finite and running
        if good:
            sums[LOSS] += loss * form.images
            counters[CORRECT] += int(correct)
            counters[LABELS] += int(counted)
            counters[IMAGES] += form.images
        elif running:
            counters[SKIPPED] += 1
        images = form.images if good else 0
        accumulated = counters[ACCUMULATED]
        total = accumulated + images
        updates = form.updates != 0 and running and total > 0
        decision[GOOD] = ONE if good else ZERO
        share = np.float32(1 / total) if form.updates != 0 and total > 0 else ONE
        decision[NEW_SHARE] = np.float32(images) * share
        decision[ACCUMULATED_SHARE] = share if accumulated > 0 else ZERO
        if running:
            counters[ACCUMULATED] = 0 if form.updates != 0 or form.accumulate == 1 else total
        _set_numbers(counters, decision, scalars, rates, numbers, counters[STEP] // form.accumulate, updates)
        counters[STEP] += 1
        random[1] += np.uint64(1)


@device_function
def _row_sum(shared, partial, row):
    """For all threads of the block."""
    i, total = cuda.threadIdx.x, 0.0
    while i < SUM_GROUPS:
        total += partial[row, i]
        i += cuda.blockDim.x
    return block_sum(shared, total)


@device_function
def _set_numbers(counters, decision, scalars, rates, numbers, update, updates):
    """Of update number ``update`` of the epoch, where it is made."""
    decision[AVERAGE_SHARE] = np.float32(rates[update, 1]) if updates else ZERO
    made = counters[UPDATES]
    for rule in range(len(scalars)):
        scalars[rule, 0] = 1 if updates else 0
        for k in range(1, scalars.shape[1] if updates else 0):
            fixed, slope = numbers[made, 2 * rule, k - 1], numbers[made, 2 * rule + 1, k - 1]
            scalars[rule, k] = fixed + rates[update, 0] * slope
    if updates:
        counters[UPDATES] = made + 1
        counters[LAST_UPDATE] = update


# -- what it changes --------------------------------------------------------------------------------------------------


def restore_unless_good(y, x, decision):
    """y = x unless the step is good. y, x: flat."""
    _restore([y], [y, x], constants=[decision])


@element_kernel(inputs=2, constants=[float32_1d])
def _restore(y, x, decision):
    return x if decision[GOOD] == ZERO else y


def blend_gradients(y, x, accumulated, decision):
    """y = a·x + b·accumulated, with the decision's shares a and b; a share of 0 drops its array even where it holds
    NaN."""
    _blend_gradients([y], [x, accumulated], constants=[decision])


@element_kernel(inputs=2, constants=[float32_1d])
def _blend_gradients(x, accumulated, decision):
    a, b = decision[NEW_SHARE], decision[ACCUMULATED_SHARE]
    return (a * x if a != ZERO else ZERO) + (b * accumulated if b != ZERO else ZERO)


def average_weights(y, x, decision):
    """y += share · (x − y), with the decision's share of the average; at 1 x itself."""
    _average([y], [y, x], constants=[decision])


@element_kernel(inputs=2, constants=[float32_1d])
def _average(y, x, decision):
    share = decision[AVERAGE_SHARE]
    approached = x if share == ONE else y + share * (x - y)
    return y if share == ZERO else approached


def clip_norm_in_place(x, partial, limit):
    """x brought to the Euclidean norm ``limit`` where it is longer. partial: scratch, 2 × SUM_GROUPS."""
    sum_squares(partial[0], x)
    _norm_factor[1, DECIDING_THREADS](partial, limit)
    _scale_by([x], [x], constants=[partial[1]])


@cuda_kernel(float64_2d, float64)
def _norm_factor(partial, limit):
    """partial[1, 0] = what x is multiplied by."""
    shared = cuda.shared.array(DECIDING_THREADS, float64)
    squares = _row_sum(shared, partial, 0)
    if cuda.threadIdx.x == 0:
        partial[1, 0] = limit / squares**0.5 if squares > limit * limit else 1.0


@element_kernel(constants=[float64_1d])
def _scale_by(x, factor):
    return np.float32(factor[0]) * x
