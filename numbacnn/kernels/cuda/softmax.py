"""Softmax and its gradient over the channels of each pixel, by teams: some threads of a block, side by side.

A team's size is a power of two that the number of channels decides; teams of one never meet at a barrier.
"""

import numpy as np
from numba import types

from numbacnn.kernels.cuda.runtime.intrinsics import MATHS, cuda, device_function
from numbacnn.kernels.cuda.runtime.jit import THREADS, cuda_kernel, float32_4d, int64
from numbacnn.kernels.registry import launcher

float32 = types.float32
CHANNELS = 8  # for each thread of a team, or more where there are not so many threads
MINUS_INFINITY, ZERO = np.float32(-np.inf), np.float32(0)


def teams_over(x):
    """(grid, team): blocks for a team to each pixel of x, and how many threads a team has."""
    images, height, across, channels = x.shape
    team = 1
    while team * CHANNELS < channels and team < THREADS:
        team *= 2
    return (-(-images * height * across * team // THREADS), THREADS), team


@device_function
def team_pixel(x, team):
    """(i, n, h, w, c, known): the pixel i of this thread's team, which may be none, and the thread's first channel."""
    thread = cuda.grid(1)
    known = thread // team < x.shape[0] * x.shape[1] * x.shape[2]
    i = thread // team if known else 0
    rest = i // x.shape[2]
    return i, rest // x.shape[1], rest % x.shape[1], i % x.shape[2], thread % team, known


@device_function
def team_sum(shared, value, team):
    """The sum over a team, for all its threads. shared: an element for each thread; all threads must call this."""
    if team > 1:
        i, step = cuda.threadIdx.x, team // 2
        cuda.syncthreads()  # what an earlier call left may still be read
        shared[i] = value
        while step > 0:
            cuda.syncthreads()
            if i % team < step:
                shared[i] += shared[i + step]
            step //= 2
        cuda.syncthreads()
        return shared[i - i % team]
    return value


@device_function
def team_max(shared, value, team):
    """The largest value of a team, as ``team_sum``; NaN where there is one."""
    if team > 1:
        i, step = cuda.threadIdx.x, team // 2
        cuda.syncthreads()
        shared[i] = value
        while step > 0:
            cuda.syncthreads()
            if i % team < step:
                shared[i] = larger(shared[i], shared[i + step])
            step //= 2
        cuda.syncthreads()
        return shared[i - i % team]
    return value


@device_function
def larger(a, b):
    """The larger number; NaN where one is."""
    return a if a >= b or a != a else b


@device_function
def largest_logit(shared, x, n, h, w, first, c, team):
    """The largest of channels ``first`` … of a pixel, of which this thread has c, c + team, …"""
    most, c = MINUS_INFINITY, first + c
    while c < x.shape[3]:
        most = larger(x[n, h, w, c], most)
        c += team
    return team_max(shared, most, team)


@launcher
def softmax_forward(y, x):
    """y[…,c] = exp(x[…,c]) / Σ_c exp(x[…,c])."""
    grid, team = teams_over(x)
    _softmax[grid](y, x, team)


@cuda_kernel(float32_4d, float32_4d, int64)
def _softmax(y, x, team):
    """Each team owns a pixel. The largest logit is taken off, so that no exponential overflows."""
    shared = cuda.shared.array(THREADS, float32)
    _, n, h, w, first, known = team_pixel(x, team)
    most = largest_logit(shared, x, n, h, w, 0, first, team)
    total, c = ZERO, first
    while c < x.shape[3]:
        total += MATHS.exp(x[n, h, w, c] - most)
        c += team
    total = team_sum(shared, total, team)
    c = first
    while known and c < x.shape[3]:
        y[n, h, w, c] = MATHS.exp(x[n, h, w, c] - most) / total
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
    _, n, h, w, first, known = team_pixel(y, team)
    mean, c = ZERO, first
    while c < y.shape[3]:
        mean += dy[n, h, w, c] * y[n, h, w, c]
        c += team
    mean = team_sum(shared, mean, team)
    c = first
    while known and c < y.shape[3]:
        dx[n, h, w, c] = y[n, h, w, c] * (dy[n, h, w, c] - mean)
        c += team
