"""Softmax over the channels of each pixel, its logarithm, and their gradients.

A team of neighboring threads of a block owns a pixel. Its size is a power of two that depends on the number of
channels. Teams of one thread need no barriers.
"""

from typing import NamedTuple

import numpy as np
from numba import types

from numbacnn.kernels.cuda.reduce import larger, team_max, team_sum
from numbacnn.kernels.cuda.runtime.intrinsics import cuda, device_function, device_math
from numbacnn.kernels.cuda.runtime.jit import THREADS, cuda_kernel, float32_4d, int64
from numbacnn.kernels.registry import launcher

float32 = types.float32
CHANNELS = 8  # per thread of a team, or more if a block has too few threads
MINUS_INFINITY, ZERO, ONE = np.float32(-np.inf), np.float32(0), np.float32(1)


class TeamPixel(NamedTuple):
    """Pixel number i = (n, h, w) of a team, and this thread's rank in the team; not ``valid`` past the last pixel."""

    i: int
    n: int
    h: int
    w: int
    rank: int
    team: int
    valid: bool


def teams_over(x):
    """Return the launch configuration with a team for each pixel of x, and the number of threads in a team."""
    images, height, across, channels = x.shape
    team = 1
    while team * CHANNELS < channels and team < THREADS:
        team *= 2
    return (-(-images * height * across * team // THREADS), THREADS), team


@device_function
def team_pixel(x, team):
    """The pixel of this thread's team. The thread owns channels rank, rank + team, …

    Past the last pixel it is the first one, which other threads may be writing: it must not be read.
    """
    thread = cuda.grid(1)
    valid = thread // team < x.shape[0] * x.shape[1] * x.shape[2]
    i = thread // team if valid else 0
    rest = i // x.shape[2]
    return TeamPixel(i, rest // x.shape[1], rest % x.shape[1], i % x.shape[2], thread % team, team, valid)


@device_function
def max_logit(shared, x, pixel, start):
    """The maximum of the channels from ``start`` on."""
    largest, c = MINUS_INFINITY if pixel.valid else ZERO, start + pixel.rank
    while pixel.valid and c < x.shape[3]:
        largest = larger(x[pixel.n, pixel.h, pixel.w, c], largest)
        c += pixel.team
    return team_max(shared, largest, pixel.team)


@device_function
def max_and_exp_sum(shared, x, pixel):
    """The maximum m of the channels, and Σ exp(x[c] − m), which cannot overflow."""
    largest, total, c = max_logit(shared, x, pixel, 0), ZERO if pixel.valid else ONE, pixel.rank
    while pixel.valid and c < x.shape[3]:
        total += device_math.exp(x[pixel.n, pixel.h, pixel.w, c] - largest)
        c += pixel.team
    return largest, team_sum(shared, total, pixel.team)


@launcher
def softmax_forward(y, x):
    """y[…,c] = exp(x[…,c]) / Σ_c exp(x[…,c])."""
    grid, team = teams_over(x)
    _softmax[grid](y, x, team)


@cuda_kernel(float32_4d, float32_4d, int64)
def _softmax(y, x, team):
    """Each team owns a pixel."""
    shared = cuda.shared.array(THREADS, float32)
    pixel = team_pixel(x, team)
    _, n, h, w, c, _, valid = pixel
    largest, total = max_and_exp_sum(shared, x, pixel)
    while valid and c < x.shape[3]:
        y[n, h, w, c] = device_math.exp(x[n, h, w, c] - largest) / total
        c += team


@launcher
def softmax_gradient(dx, dy, y):
    """dx[…,c] = y[…,c] · (dy[…,c] − Σ_d dy[…,d]·y[…,d])."""
    grid, team = teams_over(y)
    _softmax_gradient[grid](dx, dy, y, team)


@cuda_kernel(float32_4d, float32_4d, float32_4d, int64)
def _softmax_gradient(dx, dy, y, team):
    """Each team owns a pixel."""
    shared = cuda.shared.array(THREADS, float32)
    _, n, h, w, rank, _, valid = team_pixel(y, team)
    mean, c = ZERO, rank
    while valid and c < y.shape[3]:
        mean += dy[n, h, w, c] * y[n, h, w, c]
        c += team
    mean = team_sum(shared, mean, team)
    c = rank
    while valid and c < y.shape[3]:
        dx[n, h, w, c] = y[n, h, w, c] * (dy[n, h, w, c] - mean)
        c += team


@launcher
def log_softmax_forward(y, x):
    """y[…,c] = x[…,c] − log Σ_d exp(x[…,d])."""
    grid, team = teams_over(x)
    _log_softmax[grid](y, x, team)


@cuda_kernel(float32_4d, float32_4d, int64)
def _log_softmax(y, x, team):
    """Each team owns a pixel."""
    shared = cuda.shared.array(THREADS, float32)
    pixel = team_pixel(x, team)
    _, n, h, w, c, _, valid = pixel
    largest, total = max_and_exp_sum(shared, x, pixel)
    log_total = device_math.log(total)
    while valid and c < x.shape[3]:
        y[n, h, w, c] = (x[n, h, w, c] - largest) - log_total
        c += team


@launcher
def log_softmax_gradient(dx, dy, y):
    """dx[…,c] = dy[…,c] − exp(y[…,c]) · Σ_d dy[…,d]."""
    grid, team = teams_over(y)
    _log_softmax_gradient[grid](dx, dy, y, team)


@cuda_kernel(float32_4d, float32_4d, float32_4d, int64)
def _log_softmax_gradient(dx, dy, y, team):
    """Each team owns a pixel."""
    shared = cuda.shared.array(THREADS, float32)
    _, n, h, w, rank, _, valid = team_pixel(y, team)
    total, c = ZERO, rank
    while valid and c < y.shape[3]:
        total += dy[n, h, w, c]
        c += team
    total = team_sum(shared, total, team)
    c = rank
    while valid and c < y.shape[3]:
        dx[n, h, w, c] = dy[n, h, w, c] - device_math.exp(y[n, h, w, c]) * total
        c += team
