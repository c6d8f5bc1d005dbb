"""What a training step consists of, beside forward and backward, where the host does not drive it: the batch is
gathered from a data set on the device, and what the step found decides there what it changes. No twins on the CPU. What
labels become is in ``labels``.

Nothing that differs from step to step is an argument, so that launches can be captured once and replayed: it lies in
``counters``, ``kernels.steps.Tally`` as int64; ``verdict``, see there; and ``now``, the numbers of a rule's update:
now[0] is 0 where there is none, and all stays as it was, else 1.
"""

import numpy as np
from numba import types

from numbacnn.kernels.cuda.elements import element_kernel
from numbacnn.kernels.cuda.elementwise import uint8_2d
from numbacnn.kernels.cuda.labels import count_hits as count_hits
from numbacnn.kernels.cuda.labels import count_likeliest_hits as count_likeliest_hits
from numbacnn.kernels.cuda.labels import count_object_hits as count_object_hits
from numbacnn.kernels.cuda.labels import encode_boxes as encode_boxes
from numbacnn.kernels.cuda.labels import move_boxes as move_boxes
from numbacnn.kernels.cuda.labels import one_hot as one_hot
from numbacnn.kernels.cuda.labels import sum_label_weights as sum_label_weights
from numbacnn.kernels.cuda.labels import warp_classes as warp_classes
from numbacnn.kernels.cuda.reduce import block_sum
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
from numbacnn.kernels.cuda.runtime.shim import cuda, device_function
from numbacnn.kernels.cuda.update import (
    ADAM,
    RMSPROP,
    SUM_THREADS,
    adagrad,
    adam,
    float64_1d,
    float64_2d,
    lamb_direction,
    lamb_norms,
    moments,
    over_groups,
    range_of,
    rmsprop,
    rmsprop_centered,
    rmsprop_centered_moving,
    rmsprop_moving,
    sgd,
    sum_squares,
)
from numbacnn.kernels.scalar import ONE, ZERO
from numbacnn.kernels.step_scalars import (
    AVERAGE_SHARE,
    COUNTED_ROW,
    GOOD,
    HELD_SHARE,
    HITS_ROW,
    LOSS_ROWS,
    NEW_SHARE,
    SQUARES_ROW,
    SUM_GROUPS,
    StepForm,
    Tally,
)

float32, float64 = types.float32, types.float64
int64_2d, uint64_1d = types.Array(int64, 2, "C"), types.Array(types.uint64, 1, "C")
float64_3d = types.Array(float64, 3, "C")
STEP, UPDATES, LAST_UPDATE, HITS, LABELS, IMAGES, SKIPPED, HELD, BAD_STEP = range(len(Tally._fields))
LOSS, BAD_LOSS = range(2)  # of ``sums``
JUDGES = min(SUM_GROUPS, THREADS)  # threads of the one block that adds up the groups


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
    _mean_factor[1, JUDGES](partial, weights, weight)
    _scale_by([dx], [dx], constants=[weights[1]])


@cuda_kernel(float64_1d, float64_2d, float64)
def _mean_factor(partial, weights, weight):
    """One block. weights[1, 0] = what dx is multiplied by."""
    shared = cuda.shared.array(JUDGES, float64)
    total, i = _row_sum(shared, weights, 0), cuda.threadIdx.x
    factor = weight / total if total > 0 else 0.0
    while i < SUM_GROUPS:
        partial[i] *= factor
        i += cuda.blockDim.x
    if cuda.threadIdx.x == 0:
        weights[1, 0] = factor


def judge_step(counters, sums, random, verdict, now, partial, rates, numbers, form):
    """Decides what a step is worth, counts it, and goes on to the next one.

    partial: rows of SUM_GROUPS sums, see ``kernels.steps``. A step whose squares and losses
    are finite counts in ``counters``, and in sums[LOSS] with its loss times its images; another is skipped, or ends the
    training: from it on no step counts or changes anything, and sums[BAD_LOSS] is its loss. In ``now``, rules ×
    (1 + K), an update finds a + s·b of its numbers: (a, b) are numbers[u, 2r] and numbers[u, 2r + 1] for rule r of
    update u behind the tables' start; s is rates[v, 0] for update v of the epoch, skipped or not, and rates[v, 1] the
    verdict's share of the average. random: (seed, step) of the layers.
    """
    _judge_step[1, JUDGES](counters, sums, random, verdict, now, partial, rates, numbers, form)


@cuda_kernel(
    int64_1d, float64_1d, uint64_1d, float32_1d, float32_2d, float64_2d, float64_2d, float64_3d, StepForm
)  # fmt: skip
def _judge_step(counters, sums, random, verdict, now, partial, rates, numbers, form):
    """One block; all threads add, the first one decides."""
    shared = cuda.shared.array(JUDGES, float64)
    squares, loss = _row_sum(shared, partial, SQUARES_ROW), 0.0
    hits, counted = _row_sum(shared, partial, HITS_ROW), _row_sum(shared, partial, COUNTED_ROW)
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
            counters[HITS] += int(hits)
            counters[LABELS] += int(counted)
            counters[IMAGES] += form.images
        elif running:
            counters[SKIPPED] += 1
        images = form.images if good else 0
        held = counters[HELD]
        total = held + images
        updates = form.updates != 0 and running and total > 0
        verdict[GOOD] = ONE if good else ZERO
        share = np.float32(1 / total) if form.updates != 0 and total > 0 else ONE
        verdict[NEW_SHARE] = np.float32(images) * share
        verdict[HELD_SHARE] = share if held > 0 else ZERO
        if running:
            counters[HELD] = 0 if form.updates != 0 or form.accumulate == 1 else total
        _set_numbers(counters, verdict, now, rates, numbers, counters[STEP] // form.accumulate, updates)
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
def _set_numbers(counters, verdict, now, rates, numbers, update, updates):
    """Of update number ``update`` of the epoch, where it is made."""
    verdict[AVERAGE_SHARE] = np.float32(rates[update, 1]) if updates else ZERO
    made = counters[UPDATES]
    for rule in range(len(now)):
        now[rule, 0] = ONE if updates else ZERO
        for k in range(1, now.shape[1] if updates else 0):
            fixed, slope = numbers[made, 2 * rule, k - 1], numbers[made, 2 * rule + 1, k - 1]
            now[rule, k] = np.float32(fixed + rates[update, 0] * slope)
    if updates:
        counters[UPDATES] = made + 1
        counters[LAST_UPDATE] = update


# -- what it changes --------------------------------------------------------------------------------------------------


def restore_unless_good(y, x, verdict):
    """y = x unless the step was good. y, x: flat."""
    _restore([y], [y, x], constants=[verdict])


@element_kernel(inputs=2, constants=[float32_1d])
def _restore(y, x, verdict):
    return x if verdict[GOOD] == ZERO else y


def blend_gradients(y, x, held, verdict):
    """y = a·x + b·held, with the verdict's shares a and b of new and held gradients; of a share of 0 nothing, NaN
    neither."""
    _blend_gradients([y], [x, held], constants=[verdict])


@element_kernel(inputs=2, constants=[float32_1d])
def _blend_gradients(x, held, verdict):
    a, b = verdict[NEW_SHARE], verdict[HELD_SHARE]
    return (a * x if a != ZERO else ZERO) + (b * held if b != ZERO else ZERO)


def average_weights(y, x, verdict):
    """y += share · (x − y), with the verdict's share of the average; at 1 x itself."""
    _average([y], [y, x], constants=[verdict])


@element_kernel(inputs=2, constants=[float32_1d])
def _average(y, x, verdict):
    share = verdict[AVERAGE_SHARE]
    approached = x if share == ONE else y + share * (x - y)
    return y if share == ZERO else approached


def clip_norm_in_place(x, partial, limit):
    """x brought to the Euclidean norm ``limit`` where it is longer. partial: scratch, 2 × SUM_GROUPS."""
    sum_squares(partial[0], x)
    _norm_factor[1, JUDGES](partial, limit)
    _scale_by([x], [x], constants=[partial[1]])


@cuda_kernel(float64_2d, float64)
def _norm_factor(partial, limit):
    """partial[1, 0] = what x is multiplied by."""
    shared = cuda.shared.array(JUDGES, float64)
    squares = _row_sum(shared, partial, 0)
    if cuda.threadIdx.x == 0:
        partial[1, 0] = limit / squares**0.5 if squares > limit * limit else 1.0


@element_kernel(constants=[float64_1d])
def _scale_by(x, factor):
    return np.float32(factor[0]) * x


# -- updates: see ``update`` ------------------------------------------------------------------------------------------


def sgd_step(w, velocity, dw, now, momentum, weight_decay, nesterov):
    """``sgd_update`` at the learning rate now[1]."""
    _sgd_step([w, velocity], [w, velocity, dw], constants=[now, momentum, weight_decay, nesterov])


@element_kernel(outputs=2, inputs=3, constants=[float32_1d, float32, float32, types.boolean])
def _sgd_step(w, velocity, dw, now, momentum, weight_decay, nesterov):
    if now[0] == ZERO:
        return w, velocity
    return sgd(w, velocity, dw, now[1], momentum, weight_decay, nesterov)


def adam_step(w, mean, square, dw, now, o):
    """``adam_update`` with step size, correction and share that is kept in now[1], now[2] and now[3], not in ``o``."""
    _adam_step([w, mean, square], [w, mean, square, dw], constants=[now, o])


@element_kernel(outputs=3, inputs=4, constants=[float32_1d, ADAM])
def _adam_step(w, mean, square, dw, now, o):
    if now[0] == ZERO:
        return w, mean, square
    return adam(w, mean, square, dw, now[1], now[2], now[3], o)


def rmsprop_step(w, square, mean, velocity, dw, now, o):
    """``rmsprop_update`` at the learning rate now[1], not that of ``o``."""
    if mean.size and velocity.size:
        _rmsprop_centered_moving_step([w, square, mean, velocity], [w, square, mean, velocity, dw], constants=[now, o])
    elif mean.size:
        _rmsprop_centered_step([w, square, mean], [w, square, mean, dw], constants=[now, o])
    elif velocity.size:
        _rmsprop_moving_step([w, square, velocity], [w, square, velocity, dw], constants=[now, o])
    else:
        _rmsprop_step([w, square], [w, square, dw], constants=[now, o])


@element_kernel(outputs=2, inputs=3, constants=[float32_1d, RMSPROP])
def _rmsprop_step(w, square, dw, now, o):
    if now[0] == ZERO:
        return w, square
    return rmsprop(w, square, dw, now[1], o)


@element_kernel(outputs=3, inputs=4, constants=[float32_1d, RMSPROP])
def _rmsprop_moving_step(w, square, velocity, dw, now, o):
    if now[0] == ZERO:
        return w, square, velocity
    return rmsprop_moving(w, square, velocity, dw, now[1], o)


@element_kernel(outputs=3, inputs=4, constants=[float32_1d, RMSPROP])
def _rmsprop_centered_step(w, square, mean, dw, now, o):
    if now[0] == ZERO:
        return w, square, mean
    return rmsprop_centered(w, square, mean, dw, now[1], o)


@element_kernel(outputs=4, inputs=5, constants=[float32_1d, RMSPROP])
def _rmsprop_centered_moving_step(w, square, mean, velocity, dw, now, o):
    if now[0] == ZERO:
        return w, square, mean, velocity
    return rmsprop_centered_moving(w, square, mean, velocity, dw, now[1], o)


def lamb_step(w, mean, square, dw, now, partial, o):
    """``lamb_moments`` and ``lamb_update`` of one tensor, with step size and correction in now[1] and now[2], not in
    ``o``, and the learning rate in now[3]. partial: scratch, 2 × SUM_GROUPS."""
    _lamb_moments_step([mean, square], [w, mean, square, dw], constants=[now, o])
    _lamb_norms_step[over_groups(w.size)](partial, w, mean, square, now, o)
    _trust[1, JUDGES](partial)
    _lamb_step([w], [w, mean, square], constants=[now, partial[1], o])


@element_kernel(outputs=2, inputs=4, constants=[float32_1d, ADAM])
def _lamb_moments_step(w, mean, square, dw, now, o):
    if now[0] == ZERO:
        return mean, square
    return moments(w, mean, square, dw, o, 0.0)


@cuda_kernel(float64_2d, float32_1d, float32_1d, float32_1d, float32_1d, ADAM)
def _lamb_norms_step(partial, w, mean, square, now, o):
    lamb_norms(partial, w, mean, square, now[1], now[2], o)


@cuda_kernel(float64_2d)
def _trust(partial):
    """One block. partial[1, 0] = ‖w‖ / ‖r‖, 1 where one of the two is 0."""
    shared = cuda.shared.array(JUDGES, float64)
    weight, direction = _row_sum(shared, partial, 0), _row_sum(shared, partial, 1)
    if cuda.threadIdx.x == 0:
        partial[1, 0] = (weight / direction) ** 0.5 if weight > 0 and direction > 0 else 1.0


@element_kernel(inputs=3, constants=[float32_1d, float64_1d, ADAM])
def _lamb_step(w, mean, square, now, trust, o):
    if now[0] == ZERO:
        return w
    rate = np.float32(np.float64(now[3]) * trust[0])
    return w - rate * lamb_direction(w, mean, square, now[1], now[2], o)


def muon_momentum(x, mean, dw, now, momentum, share):
    """mean approaches dw by 1 − momentum; x = dw + share · (mean − dw)."""
    _muon_momentum([x, mean], [mean, dw], constants=[now, momentum, share])


@element_kernel(outputs=2, inputs=2, constants=[float32_1d, float32, float32])
def _muon_momentum(mean, dw, now, momentum, share):
    if now[0] == ZERO:
        return ZERO, mean
    mean += (ONE - momentum) * (dw - mean)
    return (ONE - share) * dw + share * mean, mean


def normalize_in_place(x, partial, least):
    """x over its Euclidean norm, or over ``least`` where that is smaller. partial: scratch, 2 × SUM_GROUPS."""
    sum_squares(partial[0], x)
    _inverse_norm[1, JUDGES](partial, least)
    _scale_by([x], [x], constants=[partial[1]])


@cuda_kernel(float64_2d, float64)
def _inverse_norm(partial, least):
    """One block. partial[1, 0] = what x is multiplied by."""
    shared = cuda.shared.array(JUDGES, float64)
    squares = _row_sum(shared, partial, 0)
    if cuda.threadIdx.x == 0:
        partial[1, 0] = 1 / max(squares**0.5, least)


def muon_step(w, direction, now, weight_decay, wide):
    """w becomes w − rate · (weight_decay · w + wide · direction), at the learning rate now[4]: before it are AdamW's
    numbers."""
    _muon_step([w], [w, direction], constants=[now, weight_decay, wide])


@element_kernel(inputs=2, constants=[float32_1d, float32, float32])
def _muon_step(w, direction, now, weight_decay, wide):
    if now[0] == ZERO:
        return w
    return (ONE - now[4] * weight_decay) * w - now[4] * wide * direction


def adagrad_step(w, square, dw, now, eps, weight_decay):
    """``adagrad_update`` at the learning rate now[1]."""
    _adagrad_step([w, square], [w, square, dw], constants=[now, eps, weight_decay])


@element_kernel(outputs=2, inputs=3, constants=[float32_1d, float32, float32])
def _adagrad_step(w, square, dw, now, eps, weight_decay):
    if now[0] == ZERO:
        return w, square
    return adagrad(w, square, dw, now[1], eps, weight_decay)
