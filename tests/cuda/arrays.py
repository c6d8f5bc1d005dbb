"""Arrays of tests on the device, with the same numbers in and around them as on the host."""

import numpy as np

from numbacnn.kernels.cuda.array import to_device

RNG = np.random.default_rng(7)


def normal(*shape):
    """Normally distributed numbers, float32."""
    return RNG.standard_normal(shape).astype(np.float32)


def both(array, halo=(0, 0, 0, 0)):
    """The array N×H×W×C as a view within a halo of NaN, on the host and on the device; and the whole on the device."""
    top, bottom, left, right = halo
    whole = np.pad(array, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=np.nan)
    n, h, w, _ = array.shape
    device = to_device(whole)
    part = (slice(0, n), slice(top, top + h), slice(left, left + w))
    return whole[part], device[part], device


def inside(device, halo=(0, 0, 0, 0)):
    """What lies on the device inside the halo, after a check that the halo was left alone."""
    whole = device.read()
    top, bottom, left, right = halo
    _, h, w, _ = whole.shape
    inner = whole[:, top : h - bottom, left : w - right].copy()
    whole[:, top : h - bottom, left : w - right] = np.nan
    assert np.isnan(whole).all(), "wrote into the halo"
    return inner
