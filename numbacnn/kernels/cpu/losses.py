"""Losses with their gradients, pixel by pixel. Features are images of one pixel.

Each kernel writes ``losses``, one for each pixel i = (n, h, w), and ``dx`` = scale · the gradient of their sum;
``scale`` includes the divisor of a mean and the weight of this loss among others. x, dx, target: N×H×W×C. Each thread
owns a range of rows (n, h), if the docstring does not name another division.
"""

from functools import partial

import numpy as np
from numba import prange, types

from numbacnn.kernels import scalar
from numbacnn.kernels.cpu.formulas import LAUNCHERS
from numbacnn.kernels.cpu.simd import math as simd_math
from numbacnn.kernels.cpu.simd.memory import address, floats
from numbacnn.kernels.cpu.softmax import log_sum_exp, pixel_memory, softmax_forward
from numbacnn.kernels.cpu.sums import plus
from numbacnn.kernels.cpu.views import pixel, row_address
from numbacnn.kernels.formulas import ELEMENT_LOSSES
from numbacnn.kernels.jit import cpu_kernel, float32_1d, float32_2d, float32_4d, in_order, inlined, int64, int64_1d
from numbacnn.kernels.registry import launcher
from numbacnn.kernels.scalar import HALF, ONE, ZERO

float32 = types.float32
float64_4d = types.Array(types.float64, 4, "C")
compiled_into = partial(inlined, always=True)  # a call for each pixel would count references to its arrays
times = inlined(scalar.times)


@in_order
def _negative_log_likelihood(x, log_sum):
    """−log softmax: (m − x) + log Σ exp(x − m). Subtracting first keeps a huge m from absorbing the logarithm."""
    largest, log_total = log_sum
    return log_total + (largest - x)


@inlined
def _clear(x):
    for c in range(len(x)):
        x[c] = ZERO


@inlined
def _without(p, label):
    """1 − p[label] as the sum of the other probabilities, without cancellation."""
    total = ZERO
    for c in range(len(p)):
        total += p[c] if c != label else ZERO
    return total


# -- softmax and labels -----------------------------------------------------------------------------------------------


@launcher
@cpu_kernel(float32_1d, float32_4d, float32_4d, int64_1d, float32_2d, int64, float32)
def cross_entropy_labels(losses, dx, x, labels, weights, ignored, scale):
    """losses[i] = Σ_c q[c] · (log Σ_d exp(x[i,d]) − x[i,c]), with q[c] = weights[0,c]·[c = labels[i]] + weights[1,c].

    labels: the class of each pixel; if it is ``ignored``, loss and gradient are 0. weights: 1×C, or 2×C with label
    smoothing, which gives all classes a share.
    """
    width, channels = x.shape[2], x.shape[3]
    for row in prange(x.shape[0] * x.shape[1]):
        p_dx, p_x, memory = row_address(dx, row), row_address(x, row), pixel_memory()
        for w in range(width):
            log_sum = log_sum_exp(p_dx, p_x, w, width, channels, memory)
            i, start = np.intp(row) * width + w, 4 * w * channels
            dx_i, x_i = floats(p_dx + start, channels), floats(p_x + start, channels)
            if labels[i] == ignored:
                losses[i] = ZERO
                _clear(dx_i)
            else:
                losses[i] = _label_pixel(dx_i, x_i, log_sum, labels[i], weights, scale)


@inlined
def label_pixel(dx, x, label, weights, scale):
    """The loss of one pixel's logits, and its gradient; see ``cross_entropy_labels``."""
    log_sum = log_sum_exp(address(dx), address(x), 0, 1, len(x), pixel_memory())
    return _label_pixel(dx, x, log_sum, label, weights, scale)


@compiled_into
def _label_pixel(dx, x, log_sum, label, weights, scale):
    """``label_pixel`` with the softmax in dx."""
    weight, own, others = weights[0, label], dx[label], _without(dx, label)
    loss = times(weight, _negative_log_likelihood(x[label], log_sum))
    if len(weights) == 1:
        for c in range(len(x)):
            dx[c] *= scale * weight
        dx[label] = -scale * weight * others
    else:
        spread = ZERO
        for c in range(len(x)):
            spread = plus(spread, weights[1, c])
        for c in range(len(x)):
            loss = plus(loss, times(weights[1, c], _negative_log_likelihood(x[c], log_sum)))
            dx[c] = scale * (dx[c] * (weight + spread) - weights[1, c])
        dx[label] = scale * (spread * own - weight * others - weights[1, label])
    return loss


@launcher
@cpu_kernel(float32_1d, float32_4d, float32_4d, float32_4d, float32_2d, float32)
def cross_entropy_probabilities(losses, dx, x, target, weights, scale):
    """``cross_entropy_labels`` with q[c] = weights[0,c]·target[i,c] + weights[1,c]."""
    width, channels = x.shape[2], x.shape[3]
    for row in prange(x.shape[0] * x.shape[1]):
        p_dx, p_x, p_target = row_address(dx, row), row_address(x, row), row_address(target, row)
        memory = pixel_memory()
        for w in range(width):
            log_sum = log_sum_exp(p_dx, p_x, w, width, channels, memory)
            i, start = np.intp(row) * width + w, 4 * w * channels
            dx_i, x_i = floats(p_dx + start, channels), floats(p_x + start, channels)
            losses[i] = _probability_pixel(dx_i, x_i, floats(p_target + start, channels), log_sum, weights, scale)


@compiled_into
def _probability_pixel(dx, x, target, log_sum, weights, scale):
    """The loss of one pixel's logits, and its gradient, from the softmax in dx."""
    loss, weight = ZERO, ZERO
    for c in range(len(x)):
        q = weights[0, c] * target[c] + (weights[1, c] if len(weights) == 2 else ZERO)
        loss += times(q, _negative_log_likelihood(x[c], log_sum))
        weight += q
    for c in range(len(x)):
        q = weights[0, c] * target[c] + (weights[1, c] if len(weights) == 2 else ZERO)
        dx[c] = (dx[c] * weight - q) * scale
    return loss


@launcher
@cpu_kernel(float32_1d, float32_4d, float32_4d, int64_1d, float32_1d, int64, float32, float32)
def focal_labels(losses, dx, x, labels, weights, ignored, gamma, scale):
    """losses[i] = −weights[y] · (1 − p)^gamma · log p, with p = softmax(x[i])[y] of the class y = labels[i].

    labels and ``ignored`` as in ``cross_entropy_labels``; weights: C. (Lin et al. 2017, equation 5, for softmax.)
    """
    width, channels = x.shape[2], x.shape[3]
    for row in prange(x.shape[0] * x.shape[1]):
        p_dx, p_x, memory = row_address(dx, row), row_address(x, row), pixel_memory()
        for w in range(width):
            log_sum = log_sum_exp(p_dx, p_x, w, width, channels, memory)
            i, start = np.intp(row) * width + w, 4 * w * channels
            dx_i, x_i = floats(p_dx + start, channels), floats(p_x + start, channels)
            if labels[i] == ignored:
                losses[i] = ZERO
                _clear(dx_i)
            else:
                losses[i] = _focal_pixel(dx_i, x_i, log_sum, labels[i], weights, gamma, scale)


@compiled_into
def _focal_pixel(dx, x, log_sum, label, weights, gamma, scale):
    """The loss of one pixel's logits, and its gradient, from the softmax in dx.

    With q = 1 − p the gradient by x[c] is weight · q^γ · (1 + γ·p·(−log p / q)) · (softmax[c] − [c = y]).
    """
    p, q = dx[label], _without(dx, label)
    nll = -simd_math.log1p(-q) if q < HALF else _negative_log_likelihood(x[label], log_sum)  # precise at both ends
    modulating_factor = weights[label] * q**gamma
    slope = modulating_factor
    if p > ZERO:
        slope *= ONE + gamma * p * (nll / q if q > ZERO else ONE)
    for c in range(len(x)):
        dx[c] *= scale * slope
    dx[label] = -scale * slope * q
    return times(modulating_factor, nll)


# -- element by element -----------------------------------------------------------------------------------------------


def elementwise_loss(name, formula):
    """The kernel ``name(losses, dx, x, target, options, scale)`` of a function of ``formulas.losses``."""
    function, factor = simd_math.vectorizable(formula.function), formula.slope_factor

    @in_order
    def share_of(scale, count):  # reordered, the factor would multiply the slope first, and overflow
        return factor * scale / count

    @inlined
    def pixel_loss(dx, x, target, options, scale):
        total, share = ZERO, share_of(scale, np.float32(len(x)))
        for c in range(len(x)):
            loss, slope = function(x[c], target[c], options, c)
            total = plus(total, loss)
            dx[c] = share * slope
        return total / np.float32(len(x))

    def kernel(losses, dx, x, target, options, scale):
        for row in prange(x.shape[0] * x.shape[1]):
            for w in range(x.shape[2]):
                loss = pixel_loss(pixel(dx, row, w), pixel(x, row, w), pixel(target, row, w), options, scale)
                losses[np.intp(row) * x.shape[2] + w] = loss

    kernel.__doc__ = function.__doc__
    kernel.__name__ = kernel.__qualname__ = name
    return cpu_kernel(float32_1d, float32_4d, float32_4d, float32_4d, float32_1d, float32)(kernel)


for _name, _formula in ELEMENT_LOSSES.items():
    launcher(elementwise_loss(_name, _formula))


# -- overlap ----------------------------------------------------------------------------------------------------------


@launcher
def dice(losses, dx, x, target, sums, smooth, softmax, scale):
    """losses[i] = mean_c 1 − D[c] of i's image, D[c] = (2·Σ p·t + smooth) / (Σ p² + Σ t² + smooth) over its pixels.

    p is the softmax of x, or its sigmoid; t = target. sums: scratch, N × groups of rows × 3 × C float64. (Milletari et
    al. 2016, section 3, for each class.)
    """
    (softmax_forward if softmax else LAUNCHERS["sigmoid_forward"])(dx, x)
    _dice_sums(sums, dx, target)
    _dice_ratios(losses, sums, smooth)
    _dice_gradient_in_place(dx, target, sums, softmax, scale)


@cpu_kernel(float64_4d, float32_4d, float32_4d)
def _dice_sums(sums, p, target):
    """sums[n,g] = Σ p·t, Σ p², Σ t² over the group's rows. Each thread owns a range of (n, g)."""
    images, groups, height = len(sums), sums.shape[1], p.shape[1]
    for item in prange(images * groups):
        n, g = np.intp(item) // groups, np.intp(item) % groups
        sums[n, g] = 0.0
        for row in range(n * height + height * g // groups, n * height + height * (g + 1) // groups):
            for w in range(p.shape[2]):
                _add_products(sums[n, g], pixel(p, row, w), pixel(target, row, w))


@inlined
def _add_products(sums, p, t):
    for c in range(len(p)):
        sums[0, c] += np.float64(p[c]) * t[c]
        sums[1, c] += np.float64(p[c]) * p[c]
        sums[2, c] += np.float64(t[c]) * t[c]


@cpu_kernel(float32_1d, float64_4d, float32)
def _dice_ratios(losses, sums, smooth):
    """Write losses; sums[n,0] becomes D and 1 / its divisor. Each thread owns a range of images."""
    images, groups, classes = len(sums), sums.shape[1], sums.shape[3]
    pixels = losses.size // images
    for item in prange(images):
        n, total = np.intp(item), 0.0
        for g in range(1, groups):
            for kind in range(3):
                for c in range(classes):
                    sums[n, 0, kind, c] += sums[n, g, kind, c]
        for c in range(classes):
            divisor = sums[n, 0, 1, c] + sums[n, 0, 2, c] + smooth
            sums[n, 0, 0, c] = (2 * sums[n, 0, 0, c] + smooth) / divisor
            sums[n, 0, 1, c] = 1 / divisor
            total += (1 - sums[n, 0, 0, c]) / classes
        for i in range(n * pixels, (n + 1) * pixels):
            losses[i] = total


@cpu_kernel(float32_4d, float32_4d, float64_4d, types.boolean, float32)
def _dice_gradient_in_place(dx, target, sums, softmax, scale):
    """Replace the probabilities p in dx by the gradient.

    The derivative of an image's loss by p is 2·(D·p − t) / divisor / C; ``losses`` has that loss H·W times.
    """
    height, width = dx.shape[1], dx.shape[2]
    share = 2 * scale * np.float32(height * width) / np.float32(dx.shape[3])
    for row in prange(dx.shape[0] * height):
        for w in range(width):
            _dice_pixel(pixel(dx, row, w), pixel(target, row, w), sums[np.intp(row) // height, 0], softmax, share)


@inlined
def _dice_pixel(p, t, ratios, softmax, share):
    mean = 0.0
    if softmax:
        for c in range(len(p)):
            mean += (ratios[0, c] * p[c] - t[c]) * ratios[1, c] * p[c]
    for c in range(len(p)):
        slope = (ratios[0, c] * p[c] - t[c]) * ratios[1, c]
        p[c] *= share * (slope - mean if softmax else slope * (ONE - p[c]))
