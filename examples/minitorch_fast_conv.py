"""A drop-in for the kernels in MiniTorch's ``fast_conv`` module: the same functions and shapes, on numbacnn's kernels.

Import the two functions in place of the module's own. Each gets flat storages with shapes and strides: images
(batch, channels, height, width) and filters (filters, channels, rows, columns), one axis less in one dimension. The
output has the size of the input, and the window of an output pixel begins there and goes right and down. With
``reverse`` it goes left and up, which is what the gradients need.

python examples/minitorch_fast_conv.py     checks it against plain loops
"""

import numpy as np

import numbacnn as nc


def tensor_conv2d(
    out,
    out_shape,
    out_strides,
    out_size,
    image,
    image_shape,
    image_strides,
    weight,
    weight_shape,
    weight_strides,
    reverse,
):
    """Write the convolution of images with filters to ``out``."""
    x = _array(image, image_shape, image_strides).transpose(0, 2, 3, 1)
    w = _array(weight, weight_shape, weight_strides).transpose(2, 3, 1, 0)
    rows, columns = w.shape[0] - 1, w.shape[1] - 1
    if reverse:
        w, padding = w[::-1, ::-1], ((0, 0), (rows, 0), (columns, 0), (0, 0))
    else:
        padding = ((0, 0), (0, rows), (0, columns), (0, 0))
    y = nc.functional.conv2d(np.pad(x, padding), w).transpose(0, 3, 1, 2)
    height, width = out_shape[2:4]  # at most those of the images, as when a gradient needs only a filter's size
    _array(out, out_shape, out_strides)[...] = y[:, :, :height, :width]


def tensor_conv1d(
    out,
    out_shape,
    out_strides,
    out_size,
    image,
    image_shape,
    image_strides,
    weight,
    weight_shape,
    weight_strides,
    reverse,
):
    """Write the convolution of rows (batch, channels, width) with filters (filters, channels, columns) to ``out``."""
    arrays = [
        (out, out_shape, out_strides),
        (image, image_shape, image_strides),
        (weight, weight_shape, weight_strides),
    ]
    y, x, w = (
        (storage, (*shape[:2], 1, shape[2]), (*strides[:2], 0, strides[2])) for storage, shape, strides in arrays
    )
    tensor_conv2d(*y, out_size, *x, *w, reverse)


def _array(storage, shape, strides):
    """Return a view of a flat storage; strides are in elements."""
    return np.lib.stride_tricks.as_strided(storage, tuple(shape), tuple(s * storage.itemsize for s in strides))


def _strided(array):
    return array.reshape(-1), array.shape, tuple(s // array.itemsize for s in array.strides)


def _loops(x, w, reverse):
    y = np.zeros((x.shape[0], w.shape[0], *x.shape[2:]))
    sign = -1 if reverse else 1
    for i, j in np.ndindex(*x.shape[2:]):
        for m, n in np.ndindex(*w.shape[2:]):
            row, column = i + sign * m, j + sign * n
            if 0 <= row < x.shape[2] and 0 <= column < x.shape[3]:
                y[:, :, i, j] += x[:, :, row, column] @ w[:, :, m, n].T
    return y


def main():
    """Compare with plain loops in both directions, and print the largest difference."""
    draw = np.random.default_rng(0).standard_normal
    worst = 0.0
    for shape, filters, convolve in [
        ((2, 3, 6, 7), (4, 3, 3, 2), tensor_conv2d),
        ((2, 3, 1, 9), (4, 3, 1, 3), tensor_conv1d),
    ]:
        x, w = draw(shape), draw(filters)
        for reverse in (False, True):
            out = np.zeros((2, 4, *shape[2:]))
            arrays = (out, x, w) if convolve is tensor_conv2d else (out[:, :, 0], x[:, :, 0], w[:, :, 0])
            y, image, weight = map(_strided, arrays)
            convolve(*y, out.size, *image, *weight, reverse)
            worst = max(worst, abs(out - _loops(x, w, reverse)).max())
    print(f"largest difference {worst:.1e}")


if __name__ == "__main__":
    main()
