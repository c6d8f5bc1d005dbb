"""Losses with their gradients. A team of threads owns a pixel, or a feature vector: see ``softmax``.

Each kernel writes ``losses``, one for each pixel i = (n, h, w), and ``dx`` = scale · the gradient of their sum; the
divisor of the sum and the weight of this loss among others are in ``scale``. x, dx, target: N×H×W×C.
"""

import numpy as np
from numba import types

from numbacnn.kernels import scalar
from numbacnn.kernels.cuda.formulas import LAUNCHERS, as_launcher
from numbacnn.kernels.cuda.reduce import column_sum, team_sum
from numbacnn.kernels.cuda.runtime.intrinsics import cuda, device_function, device_math, scalar_function
from numbacnn.kernels.cuda.runtime.jit import (
    THREADS,
    cuda_kernel,
    float32_1d,
    float32_2d,
    float32_4d,
    int64,
    int64_1d,
    over,
)
from numbacnn.kernels.cuda.softmax import max_and_exp_sum, max_logit, softmax_forward, team_pixel, teams_over
from numbacnn.kernels.formulas import ELEMENT_LOSSES
from numbacnn.kernels.registry import launcher
from numbacnn.kernels.scalar import HALF, ONE, ZERO

float32, float64 = types.float32, types.float64
float64_4d = types.Array(float64, 4, "C")
times = scalar_function(scalar.times)


# -- softmax and labels -----------------------------------------------------------------------------------------------


@launcher
def cross_entropy_labels(losses, dx, x, labels, weights, ignored, scale):
    """losses[i] = Σ_c q[c] · (log Σ_d exp(x[i,d]) − x[i,c]), with q[c] = weights[0,c]·[c = labels[i]] + weights[1,c].

    labels: the class of each pixel; if it is ``ignored``, loss and gradient are 0. weights: 1×C, or 2×C with label
    smoothing, which gives all classes a share.
    """
    grid, team = teams_over(x)
    _cross_entropy_labels[grid](losses, dx, x, labels, weights, ignored, scale, team)


@cuda_kernel(float32_1d, float32_4d, float32_4d, int64_1d, float32_2d, int64, float32, int64)
def _cross_entropy_labels(losses, dx, x, labels, weights, ignored, scale, team):
    """Each team owns a pixel."""
    shared = cuda.shared.array(THREADS, float32)
    pixel = team_pixel(x, team)
    i, n, h, w, c, _, valid = pixel
    counts = labels[i] != ignored
    loss = label_loss(shared, dx, x, pixel, 0, labels[i] if counts else 0, weights, scale)
    if valid and c == 0:
        losses[i] = loss if counts else ZERO
    while valid and not counts and c < x.shape[3]:
        dx[n, h, w, c] = ZERO
        c += team


@device_function
def label_loss(shared, dx, x, pixel, start, label, weights, scale):
    """The loss of the logits from channel ``start`` on and a label, for all threads of the team; and its gradient."""
    _, n, h, w, rank, team, valid = pixel
    classes, smoothed = x.shape[3] - start, len(weights) > 1
    own = x[n, h, w, start + label] if valid else ZERO  # before the barriers of the sums, since dx may be x
    largest, total, others = _exp_sums(shared, x, pixel, start, label)
    log_total, weight = device_math.log(total), weights[0, label]
    # The difference is taken first: a huge maximum would absorb the logarithm.
    loss = times(weight, log_total + (largest - own))
    spread, smoothing, c = ZERO, ZERO, rank
    while valid and smoothed and c < classes:
        spread += weights[1, c]
        smoothing += times(weights[1, c], log_total + (largest - x[n, h, w, start + c]))
        c += team
    if smoothed:
        spread, smoothing = team_sum(shared, spread, team), team_sum(shared, smoothing, team)
    c = rank
    while valid and c < classes:
        p = device_math.exp(x[n, h, w, start + c] - largest) / total
        # 1 − p of the label is the sum of the other probabilities, without cancellation.
        slope = -weight * (others / total) if c == label else weight * p
        dx[n, h, w, start + c] = scale * (slope + (spread * p - (weights[1, c] if smoothed else ZERO)))
        c += team
    return loss + smoothing


@device_function
def _exp_sums(shared, x, pixel, start, label):
    """The maximum m of the logits from channel ``start`` on, Σ exp(logit − m), and that sum without the label."""
    _, n, h, w, c, team, valid = pixel
    largest, total, others = max_logit(shared, x, pixel, start), ZERO if valid else ONE, ZERO
    while valid and start + c < x.shape[3]:
        e = device_math.exp(x[n, h, w, start + c] - largest)
        total += e
        others += ZERO if c == label else e
        c += team
    return largest, team_sum(shared, total, team), team_sum(shared, others, team)


@launcher
def cross_entropy_probabilities(losses, dx, x, target, weights, scale):
    """``cross_entropy_labels`` with q[c] = weights[0,c]·target[i,c] + weights[1,c]."""
    grid, team = teams_over(x)
    _cross_entropy_probabilities[grid](losses, dx, x, target, weights, scale, team)


@cuda_kernel(float32_1d, float32_4d, float32_4d, float32_4d, float32_2d, float32, int64)
def _cross_entropy_probabilities(losses, dx, x, target, weights, scale, team):
    """Each team owns a pixel."""
    shared = cuda.shared.array(THREADS, float32)
    pixel = team_pixel(x, team)
    i, n, h, w, rank, _, valid = pixel
    largest, total = max_and_exp_sum(shared, x, pixel)
    log_total, loss, weight, c = device_math.log(total), ZERO, ZERO, rank
    while valid and c < x.shape[3]:
        q = _smoothed(target[n, h, w, c], weights, c)
        loss += times(q, log_total + (largest - x[n, h, w, c]))
        weight += q
        c += team
    loss, weight, c = team_sum(shared, loss, team), team_sum(shared, weight, team), rank
    while valid and c < x.shape[3]:
        p = device_math.exp(x[n, h, w, c] - largest) / total
        dx[n, h, w, c] = (p * weight - _smoothed(target[n, h, w, c], weights, c)) * scale
        c += team
    if valid and rank == 0:
        losses[i] = loss


@device_function
def _smoothed(target, weights, c):
    return weights[0, c] * target + (weights[1, c] if len(weights) > 1 else ZERO)


@launcher
def focal_labels(losses, dx, x, labels, weights, ignored, gamma, scale):
    """losses[i] = −weights[y] · (1 − p)^gamma · log p, with p = softmax(x[i])[y] of the class y = labels[i].

    labels and ``ignored`` as in ``cross_entropy_labels``; weights: C. (Lin et al. 2017, equation 5, for softmax.)
    """
    grid, team = teams_over(x)
    _focal_labels[grid](losses, dx, x, labels, weights, ignored, gamma, scale, team)


@cuda_kernel(float32_1d, float32_4d, float32_4d, int64_1d, float32_1d, int64, float32, float32, int64)
def _focal_labels(losses, dx, x, labels, weights, ignored, gamma, scale, team):
    """With q = 1 − p, the gradient by x[c] is weight · q^γ · (1 + γ·p·(−log p / q)) · (softmax[c] − [c = y]).

    Each team owns a pixel.
    """
    shared = cuda.shared.array(THREADS, float32)
    pixel = team_pixel(x, team)
    i, n, h, w, c, _, valid = pixel
    counts = labels[i] != ignored
    label = labels[i] if counts else 0
    own = x[n, h, w, label] if valid else ZERO  # before the barriers of the sums, since dx may be x
    largest, total, others = _exp_sums(shared, x, pixel, 0, label)
    p, q = device_math.exp(own - largest) / total, others / total
    # −log p, precise at both ends
    nll = -device_math.log1p(-q) if q < HALF else device_math.log(total) + (largest - own)
    modulating_factor = weights[label] * device_math.pow(q, gamma)
    slope = scale * modulating_factor
    if p > ZERO:
        slope *= ONE + gamma * p * (nll / q if q > ZERO else ONE)
    if valid and c == 0:
        losses[i] = times(modulating_factor, nll) if counts else ZERO
    while valid and c < x.shape[3]:
        difference = -q if c == label else device_math.exp(x[n, h, w, c] - largest) / total
        dx[n, h, w, c] = slope * difference if counts else ZERO
        c += team


# -- elementwise ------------------------------------------------------------------------------------------------------


def elementwise_loss(name, formula):
    """Make the launcher ``name(losses, dx, x, target, options, scale)`` of a function of ``formulas.losses``."""
    function, factor = scalar_function(formula.function), formula.slope_factor

    def kernel(losses, dx, x, target, options, scale, team):
        shared = cuda.shared.array(THREADS, float32)
        i, n, h, w, rank, _, valid = team_pixel(x, team)
        total, share, c = ZERO, factor * scale / np.float32(x.shape[3]), rank
        while valid and c < x.shape[3]:
            loss, slope = function(x[n, h, w, c], target[n, h, w, c], options, c)
            total += loss
            dx[n, h, w, c] = share * slope
            c += team
        total = team_sum(shared, total, team)
        if valid and rank == 0:
            losses[i] = total / np.float32(x.shape[3])

    kernel.__name__ = f"_{name}"
    compiled = cuda_kernel(float32_1d, float32_4d, float32_4d, float32_4d, float32_1d, float32, int64)(kernel)

    def launch(losses, dx, x, target, options, scale):
        grid, team = teams_over(x)
        compiled[grid](losses, dx, x, target, options, scale, team)

    return as_launcher(launch, name, function.__doc__)


for _name, _formula in ELEMENT_LOSSES.items():
    launcher(elementwise_loss(_name, _formula))


# -- overlap ----------------------------------------------------------------------------------------------------------


@launcher
def dice(losses, dx, x, target, sums, smooth, softmax, scale):
    """losses[i] = mean_c 1 − D[c] of i's image, D[c] = (2·Σ p·t + smooth) / (Σ p² + Σ t² + smooth) over its pixels.

    p is the softmax of x, or the sigmoid, and t = target. sums: scratch, N × groups of rows × 3 × C float64.
    (Milletari et al. 2016, section 3, for each class.)
    """
    images, groups, _, classes = sums.shape
    (softmax_forward if softmax else LAUNCHERS["sigmoid_forward"])(dx, x)
    columns = 1
    while columns < min(classes, THREADS):
        columns *= 2
    _dice_sums[(images * groups, -(-classes // columns)), (columns, THREADS // columns)](sums, dx, target)
    _dice_ratios[over(images * classes)](sums, smooth)
    _dice_losses[over(losses.size)](losses, sums)
    grid, team = teams_over(dx)
    _dice_gradient[grid](dx, target, sums, softmax, scale, team)


@cuda_kernel(float64_4d, float32_4d, float32_4d)
def _dice_sums(sums, p, target):
    """sums[n,g] = Σ p·t, Σ p², Σ t² over the group's rows. Each block owns some channels of a group."""
    shared = cuda.shared.array(THREADS, float64)
    groups, height, across = sums.shape[1], p.shape[1], p.shape[2]
    n, g, c = cuda.blockIdx.x // groups, cuda.blockIdx.x % groups, cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    first, last = height * g // groups * across, height * (g + 1) // groups * across
    product, square_p, square_t, i = 0.0, 0.0, 0.0, first + cuda.threadIdx.y
    while c < p.shape[3] and i < last:
        a, b = np.float64(p[n, i // across, i % across, c]), np.float64(target[n, i // across, i % across, c])
        product += a * b
        square_p += a * a
        square_t += b * b
        i += cuda.blockDim.y
    product, square_p = column_sum(product, shared), column_sum(square_p, shared)
    square_t = column_sum(square_t, shared)
    if cuda.threadIdx.y == 0 and c < p.shape[3]:
        sums[n, g, 0, c], sums[n, g, 1, c], sums[n, g, 2, c] = product, square_p, square_t


@cuda_kernel(float64_4d, float32)
def _dice_ratios(sums, smooth):
    """Replace sums[n,0] by D and 1 / its divisor. Each thread owns a class of an image."""
    i = cuda.grid(1)
    n, c = i // sums.shape[3], i % sums.shape[3]
    if n < len(sums):
        product, square_p, square_t = sums[n, 0, 0, c], sums[n, 0, 1, c], sums[n, 0, 2, c]
        for g in range(1, sums.shape[1]):
            product += sums[n, g, 0, c]
            square_p += sums[n, g, 1, c]
            square_t += sums[n, g, 2, c]
        divisor = square_p + square_t + smooth
        sums[n, 0, 0, c] = (2 * product + smooth) / divisor
        sums[n, 0, 1, c] = 1 / divisor


@cuda_kernel(float32_1d, float64_4d)
def _dice_losses(losses, sums):
    """Each thread owns a pixel."""
    i, classes = cuda.grid(1), sums.shape[3]
    if i < losses.size:
        n, total = i // (losses.size // len(sums)), 0.0
        for c in range(classes):
            total += (1 - sums[n, 0, 0, c]) / classes
        losses[i] = np.float32(total)


@cuda_kernel(float32_4d, float32_4d, float64_4d, types.boolean, float32, int64)
def _dice_gradient(dx, target, sums, softmax, scale, team):
    """Replace p in dx by the gradient. Each team owns a pixel.

    The gradient of an image's loss by p is 2·(D·p − t) / divisor / C; ``losses`` repeats that loss H·W times.
    """
    shared = cuda.shared.array(THREADS, float64)
    _, n, h, w, rank, _, valid = team_pixel(dx, team)
    share = 2 * np.float64(scale) * np.float64(dx.shape[1] * dx.shape[2]) / np.float64(dx.shape[3])
    mean, c = 0.0, rank
    while valid and softmax and c < dx.shape[3]:
        p = np.float64(dx[n, h, w, c])
        mean += (sums[n, 0, 0, c] * p - np.float64(target[n, h, w, c])) * sums[n, 0, 1, c] * p
        c += team
    mean = team_sum(shared, mean, team)
    c = rank
    while valid and c < dx.shape[3]:
        p = np.float64(dx[n, h, w, c])
        slope = (sums[n, 0, 0, c] * p - np.float64(target[n, h, w, c])) * sums[n, 0, 1, c]
        dx[n, h, w, c] = np.float32(p * share * (slope - mean if softmax else slope * (1 - p)))
        c += team
