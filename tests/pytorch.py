"""Helpers of the ops' twins in PyTorch, which is imported when a twin first runs, since it need not be installed."""

import importlib
import zlib

import numpy as np
import oracles
from engine import KEY


class _Lazy:
    """A module that is imported when the first attribute is read."""

    def __init__(self, name):
        self._name = name

    def __getattr__(self, attribute):
        return getattr(importlib.import_module(self._name), attribute)


torch, F, optim = _Lazy("torch"), _Lazy("torch.nn.functional"), _Lazy("torch.optim")


def tensor(array, dtype=None):
    """Copy an array to a tensor with ``requires_grad``, by default of float64."""
    return torch.tensor(np.asarray(array), dtype=dtype or torch.float64, requires_grad=True)


def channels_first(x):
    return x.permute(0, 3, 1, 2)


def channels_last(y):
    return y.permute(0, 2, 3, 1)


def pads(g):
    """Return F.pad's (left, right, top, bottom), so that every window is inside."""
    bottom = (g.p - 1) * g.stride_h + reach(g, 0) - g.h - g.pad_top
    right = (g.q - 1) * g.stride_w + reach(g, 1) - g.w - g.pad_left
    return g.pad_left, right, g.pad_top, bottom


def reach(g, axis):
    """Return the size of a dilated window in pixels."""
    window, dilation = (g.r, g.s)[axis], getattr(g, ("dilation_h", "dilation_w")[axis], 1)
    return (window - 1) * dilation + 1


def conv2d(layer, g, x, weight, bias=None):
    stride, dilation = (g.stride_h, g.stride_w), (g.dilation_h, g.dilation_w)
    height, width = (g.p - 1) * g.stride_h + reach(g, 0), (g.q - 1) * g.stride_w + reach(g, 1)
    room = [max(0, sides) for sides in pads(g)]  # negative where windows leave pixels out
    padded = F.pad(channels_first(x), room)[:, :, :height, :width]
    return channels_last(F.conv2d(padded, weight.permute(3, 2, 0, 1).contiguous(), bias, stride, 0, dilation, g.groups))


def symmetric_padding(g):
    """Return the padding in the only form that PyTorch's pools take, or None."""
    sides = (g.pad_top, g.pad_left)
    fits = (g.pad_bottom, g.pad_right) == sides and 2 * sides[0] <= g.r and 2 * sides[1] <= g.s
    return sides if fits else None


def same_mask(layer, g, x):
    """Apply a dropout with the oracle's mask, since PyTorch draws other numbers."""
    key = *KEY, zlib.crc32(f"{layer.op}_1".encode())
    return x * torch.tensor(oracles.forward(layer, [np.ones(x.shape)], {}, key))
