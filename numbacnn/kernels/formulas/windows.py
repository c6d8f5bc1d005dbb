"""Index arithmetic of pooling and upsampling, which the kernels of both devices share. Every function is along one axis
or for one window."""

import numpy as np

ZERO, ONE = np.float32(0), np.float32(1)


def bin_range(p, size, bins):
    """The first pixel of bin p, and its end: ⌊p·size/bins⌋ and ⌈(p + 1)·size/bins⌉, as in PyTorch."""
    return p * size // bins, ((p + 1) * size + bins - 1) // bins


def outputs_at(h, window, stride, outputs):
    """The range of outputs whose windows contain row or column h of the padded input."""
    return max(0, (h - window) // stride + 1), min(outputs, h // stride + 1)


def window_share(h, w, g):
    """1 / the number of pixels in the mean of the window that starts at (h, w).

    With ``count_include_pad``, declared padding counts, but nothing beyond it.
    """
    if g.count_include_pad:
        count = (min(h + g.r, g.h + g.pad_bottom) - h) * (min(w + g.s, g.w + g.pad_right) - w)
    else:
        count = (min(h + g.r, g.h) - max(h, 0)) * (min(w + g.s, g.w) - max(w, 0))
    return ONE / np.float32(count)


def bilinear_taps(p, factor, size):
    """The two inputs around the center of output p, and the weight of the second; computed in half pixels, exactly."""
    halves = max(0, 2 * p + 1 - factor)
    first = halves // (2 * factor)
    return first, min(first + 1, size - 1), np.float32(halves % (2 * factor)) / np.float32(2 * factor)


def bilinear_outputs(h, factor, outputs):
    """The range of outputs that input h contributes to."""
    return max(0, (factor * (2 * h - 1) + 1) // 2), min(outputs, factor * (2 * h + 3) // 2)


def bilinear_weight(h, taps):
    """The weight of input h in the output with these ``bilinear_taps``."""
    first, second, share = taps
    return (ONE - share if first == h else ZERO) + (share if second == h else ZERO)
