"""A drop-in for the ``fast_layers`` module of Stanford's CS231n: the same functions and shapes, on numbacnn's kernels.

Copy it over the course's module of that name. Images are (N, C, H, W), filters (F, C, HH, WW), biases (F,).

python examples/cs231n_fast_layers.py     checks it against plain loops
"""

from functools import lru_cache

import numpy as np

import numbacnn as nc


def conv_forward_fast(x, w, b, conv_param):
    """Return the convolution of x with w plus b, and what the backward pass needs; conv_param has stride and pad."""
    model = _conv(x.shape[1:], w.shape, conv_param["stride"], conv_param["pad"])
    model.set_parameters({"conv.weight": w.transpose(2, 3, 1, 0), "conv.bias": b})
    return _channels_first(model.forward(_channels_last(x), training=True), x), (x, w, b, conv_param)


def conv_backward_fast(dout, cache):
    """Return the gradients with respect to x, w and b."""
    x, w, b, conv_param = cache
    model = _conv(x.shape[1:], w.shape, conv_param["stride"], conv_param["pad"])
    model.set_parameters({"conv.weight": w.transpose(2, 3, 1, 0), "conv.bias": b})
    model.forward(_channels_last(x), training=True)  # another call may have used the model since
    dx = _channels_first(model.backward(_channels_last(dout)), x)
    dw, db = (np.array(model.gradients[name], x.dtype) for name in ("conv.weight", "conv.bias"))
    return dx, dw.transpose(3, 2, 0, 1), db


def max_pool_forward_fast(x, pool_param):
    """Return the maximum of each window, and what the backward pass needs."""
    model = _pool(x.shape[1:], *(pool_param[name] for name in ("pool_height", "pool_width", "stride")))
    return _channels_first(model.forward(_channels_last(x), training=True), x), (x, pool_param)


def max_pool_backward_fast(dout, cache):
    """Return the gradient with respect to x."""
    x, pool_param = cache
    model = _pool(x.shape[1:], *(pool_param[name] for name in ("pool_height", "pool_width", "stride")))
    model.forward(_channels_last(x), training=True)
    return _channels_first(model.backward(_channels_last(dout)), x)


@lru_cache(maxsize=32)
def _conv(shape, filters, stride, pad):
    c, h, w = shape
    count, _, rows, columns = filters
    layer = nc.Conv2D(count, (rows, columns), stride=stride, padding=pad, name="conv")
    return nc.Sequential([layer], (h, w, c))


@lru_cache(maxsize=32)
def _pool(shape, rows, columns, stride):
    c, h, w = shape
    return nc.Sequential([nc.MaxPool2D((rows, columns), stride)], (h, w, c))


def _channels_last(x):
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1), np.float32)


def _channels_first(y, like):
    return y.transpose(0, 3, 1, 2).astype(like.dtype)


def main():
    """Compare forward and backward with plain loops, and print the largest difference."""
    draw = np.random.default_rng(0).standard_normal
    x, w, b = draw((2, 3, 8, 8)), draw((4, 3, 3, 3)), draw(4)
    out, cache = conv_forward_fast(x, w, b, {"stride": 1, "pad": 1})
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    dout = draw(out.shape)
    expected, dx, dw = np.zeros(out.shape) + b.reshape(1, 4, 1, 1), np.zeros(padded.shape), np.zeros(w.shape)
    for i in range(8):
        for j in range(8):
            window = np.s_[:, :, i : i + 3, j : j + 3]
            expected[:, :, i, j] += np.einsum("nchw,fchw->nf", padded[window], w)
            dx[window] += np.einsum("nf,fchw->nchw", dout[:, :, i, j], w)
            dw += np.einsum("nf,nchw->fchw", dout[:, :, i, j], padded[window])
    found = [out, *conv_backward_fast(dout, cache)]
    right = [expected, dx[:, :, 1:-1, 1:-1], dw, dout.sum(axis=(0, 2, 3))]
    pooled, cache = max_pool_forward_fast(x, {"pool_height": 2, "pool_width": 2, "stride": 2})
    blocks = x.reshape(2, 3, 4, 2, 4, 2)
    largest = blocks.max(axis=(3, 5), keepdims=True)
    dpool = draw(pooled.shape)
    found += [pooled, max_pool_backward_fast(dpool, cache)]
    right += [largest.reshape(pooled.shape), ((blocks == largest) * dpool.reshape(2, 3, 4, 1, 4, 1)).reshape(x.shape)]
    worst = max(np.abs(a - b).max() / np.abs(b).max() for a, b in zip(found, right, strict=True))
    print(f"largest relative difference {worst:.1e}")


if __name__ == "__main__":
    main()
