"""Losses with their gradients, by teams of threads, one for each pixel or image: see ``softmax``.

Each kernel writes ``losses``, one for each pixel i = (n, h, w), and ``dx`` = scale · the gradient of their sum: what
the sum is divided by, and what weight the loss has among others, is in ``scale``. x, dx, target: N×H×W×C.
"""

import numpy as np
from numba import types

from numbacnn.kernels import scalar
from numbacnn.kernels.cuda.formulas import LAUNCHERS
from numbacnn.kernels.cuda.norm.channels import sum_down
from numbacnn.kernels.cuda.runtime.intrinsics import MATHS, cuda, device_function, scalar_function
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
from numbacnn.kernels.cuda.softmax import largest_logit, softmax_forward, team_pixel, team_sum, teams_over
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

    labels: class of each pixel; where it is ``ignored``, loss and gradient are 0. weights: 1×C, or 2×C where labels
    are smoothed, a share of each then going to all classes.
    """
    grid, team = teams_over(x)
    _cross_entropy_labels[grid](losses, dx, x, labels, weights, ignored, scale, team)


@cuda_kernel(float32_1d, float32_4d, float32_4d, int64_1d, float32_2d, int64, float32, int64)
def _cross_entropy_labels(losses, dx, x, labels, weights, ignored, scale, team):
    """Each team owns a pixel."""
    shared = cuda.shared.array(THREADS, float32)
    i, n, h, w, first, known = team_pixel(x, team)
    counts = labels[i] != ignored
    label = labels[i] if counts else 0
    loss = label_loss(shared, dx, x, n, h, w, 0, first, label, weights, scale if counts else ZERO, team, known)
    if known and first == 0:
        losses[i] = loss if counts else ZERO
    c = first
    while known and not counts and c < x.shape[3]:
        dx[n, h, w, c] = ZERO  # also where the logits are not finite
        c += team


@device_function
def label_loss(shared, dx, x, n, h, w, start, first, label, weights, scale, team, known):
    """The loss of the logits from channel ``start`` on and a label, for all the team's threads; and its gradient."""
    most = largest_logit(shared, x, n, h, w, start, first, team)
    classes = x.shape[3] - start
    smoothed = len(weights) > 1
    total, others, spread, c = ZERO, ZERO, ZERO, first
    while c < classes:
        e = MATHS.exp(x[n, h, w, start + c] - most)
        total += e
        others += ZERO if c == label else e
        spread += weights[1, c] if smoothed else ZERO
        c += team
    total, others = team_sum(shared, total, team), team_sum(shared, others, team)
    log_total = MATHS.log(total)
    # The largest logit comes off before anything is added: the logarithm would vanish beside a huge one.
    weight, loss = weights[0, label], ZERO
    own = times(weight, log_total + (most - x[n, h, w, start + label]))
    if smoothed:
        spread, c = team_sum(shared, spread, team), first
        while c < classes:
            loss += times(weights[1, c], log_total + (most - x[n, h, w, start + c]))
            c += team
        loss = team_sum(shared, loss, team)
    c = first
    while known and c < classes:
        p = MATHS.exp(x[n, h, w, start + c] - most) / total
        extra = weights[1, c] if smoothed else ZERO
        # 1 − p of the label is the others' share, without the rounding errors of that difference.
        apart = -weight * (others / total) if c == label else weight * p
        dx[n, h, w, start + c] = scale * (apart + (spread * p - extra))
        c += team
    return own + loss


@launcher
def cross_entropy_probabilities(losses, dx, x, target, weights, scale):
    """As ``cross_entropy_labels``, with q[c] = weights[0,c]·target[i,c] + weights[1,c]."""
    grid, team = teams_over(x)
    _cross_entropy_probabilities[grid](losses, dx, x, target, weights, scale, team)


@cuda_kernel(float32_1d, float32_4d, float32_4d, float32_4d, float32_2d, float32, int64)
def _cross_entropy_probabilities(losses, dx, x, target, weights, scale, team):
    """Each team owns a pixel."""
    shared = cuda.shared.array(THREADS, float32)
    i, n, h, w, first, known = team_pixel(x, team)
    most = largest_logit(shared, x, n, h, w, 0, first, team)
    total, c = ZERO, first
    while c < x.shape[3]:
        total += MATHS.exp(x[n, h, w, c] - most)
        c += team
    total = team_sum(shared, total, team)
    log_total, loss, weight, c = MATHS.log(total), ZERO, ZERO, first
    while c < x.shape[3]:
        q = _target_share(target[n, h, w, c], weights, c)
        loss += q * (log_total + (most - x[n, h, w, c]))
        weight += q
        c += team
    loss, weight = team_sum(shared, loss, team), team_sum(shared, weight, team)
    c = first
    while known and c < x.shape[3]:
        p = MATHS.exp(x[n, h, w, c] - most) / total
        dx[n, h, w, c] = (p * weight - _target_share(target[n, h, w, c], weights, c)) * scale
        c += team
    if known and first == 0:
        losses[i] = loss


@device_function
def _target_share(target, weights, c):
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
    """With q = 1 − p the gradient by x[c] is weight · q^γ · (1 + γ·p·(−log p / q)) · (softmax[c] − [c = y]). Each team
    owns a pixel."""
    shared = cuda.shared.array(THREADS, float32)
    i, n, h, w, first, known = team_pixel(x, team)
    counts = labels[i] != ignored
    label = labels[i] if counts else 0
    most = largest_logit(shared, x, n, h, w, 0, first, team)
    total, others, c = ZERO, ZERO, first
    while c < x.shape[3]:
        e = MATHS.exp(x[n, h, w, c] - most)
        total += e
        others += ZERO if c == label else e
        c += team
    total, others = team_sum(shared, total, team), team_sum(shared, others, team)
    p, q = MATHS.exp(x[n, h, w, label] - most) / total, others / total
    # −log p, precise at both ends
    nll = -MATHS.log1p(-q) if q < HALF else MATHS.log(total) + (most - x[n, h, w, label])
    modulating_factor = weights[label] * MATHS.pow(q, gamma)
    slope = modulating_factor
    if p > ZERO:
        slope *= ONE + gamma * p * (nll / q if q > ZERO else ONE)
    c = first
    while known and c < x.shape[3]:
        apart = -q if c == label else MATHS.exp(x[n, h, w, c] - most) / total
        dx[n, h, w, c] = scale * slope * apart if counts else ZERO
        c += team
    if known and first == 0:
        losses[i] = times(modulating_factor, nll) if counts else ZERO


# -- element by element -----------------------------------------------------------------------------------------------


def elementwise_loss(name, function):
    """The launcher ``name(losses, dx, x, target, options, scale)`` of a function of ``formulas.losses``."""
    function = scalar_function(function)

    def kernel(losses, dx, x, target, options, scale, team):
        shared = cuda.shared.array(THREADS, float32)
        i, n, h, w, first, known = team_pixel(x, team)
        total, share, c = ZERO, scale / np.float32(x.shape[3]), first
        while known and c < x.shape[3]:
            loss, slope = function(x[n, h, w, c], target[n, h, w, c], options, c)
            total += loss
            dx[n, h, w, c] = share * slope
            c += team
        total = team_sum(shared, total, team)
        if known and first == 0:
            losses[i] = total / np.float32(x.shape[3])

    kernel.__name__ = f"_{name}"
    compiled = cuda_kernel(float32_1d, float32_4d, float32_4d, float32_4d, float32_1d, float32, int64)(kernel)

    def launch(losses, dx, x, target, options, scale):
        grid, team = teams_over(x)
        compiled[grid](losses, dx, x, target, options, scale, team)

    launch.__doc__ = function.__doc__
    launch.__name__ = launch.__qualname__ = name
    return launch


for _name, _function in ELEMENT_LOSSES.items():
    launcher(elementwise_loss(_name, _function))


# -- overlap ----------------------------------------------------------------------------------------------------------


@launcher
def dice(losses, dx, x, target, sums, smooth, softmax, scale):
    """losses[i] = mean_c 1 − D[c] of i's image, D[c] = (2·Σ p·t + smooth) / (Σ p² + Σ t² + smooth) over its pixels.

    p are the softmax, or else the sigmoid, of x; t = target. sums: scratch, N × groups of rows × 3 × C float64.
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
    product, square_p = sum_down(product, shared), sum_down(square_p, shared)
    square_t = sum_down(square_t, shared)
    if cuda.threadIdx.y == 0 and c < p.shape[3]:
        sums[n, g, 0, c], sums[n, g, 1, c], sums[n, g, 2, c] = product, square_p, square_t


@cuda_kernel(float64_4d, float32)
def _dice_ratios(sums, smooth):
    """sums[n,0] becomes D, and 1 / its divisor. Each thread owns a class of an image."""
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
    """dx becomes the gradient, from p. By p that of an image's loss is 2·(D·p − t) / divisor / C; losses has H·W. Each
    team owns a pixel."""
    shared = cuda.shared.array(THREADS, float64)
    _, n, h, w, first, known = team_pixel(dx, team)
    share = 2 * np.float64(scale) * np.float64(dx.shape[1] * dx.shape[2]) / np.float64(dx.shape[3])
    mean, c = 0.0, first
    while softmax and c < dx.shape[3]:
        p = np.float64(dx[n, h, w, c])
        mean += (sums[n, 0, 0, c] * p - np.float64(target[n, h, w, c])) * sums[n, 0, 1, c] * p
        c += team
    mean = team_sum(shared, mean, team)
    c = first
    while known and c < dx.shape[3]:
        p = np.float64(dx[n, h, w, c])
        slope = (sums[n, 0, 0, c] * p - np.float64(target[n, h, w, c])) * sums[n, 0, 1, c]
        dx[n, h, w, c] = np.float32(p * share * (slope - mean if softmax else slope * (1 - p)))
        c += team
