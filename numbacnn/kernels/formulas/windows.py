"""Index arithmetic of pooling, which the kernels of both devices share. Every function is along one axis or for one
window."""

import numpy as np

ONE = np.float32(1)


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
