"""The oracle: every op in plain NumPy, float64, forward and gradient, as its formula reads. Slow, and shared by tests.

Arrays are N×H×W×C and R×S×C/groups×K as everywhere. Windowed ops take pairs for stride and dilation, and padding as
``sides`` returns it. Nothing of numbacnn's own geometry or kernels is used here.
"""

import itertools
import math
from typing import NamedTuple

import numpy as np

# -- windows ----------------------------------------------------------------------------------------------------------


class Windows(NamedTuple):
    """r×s windows over a padded image: for tap (i, j), ``view(x, i, j)`` are the pixels it meets in all windows."""

    size: tuple[int, int]
    outputs: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]

    @property
    def taps(self):
        return list(itertools.product(*map(range, self.size)))

    def view(self, padded, i, j):
        (p, q), (sh, sw), (dh, dw) = self.outputs, self.stride, self.dilation
        top, left = i * dh, j * dw
        return padded[:, top : top + (p - 1) * sh + 1 : sh, left : left + (q - 1) * sw + 1 : sw]

    def pad(self, x, value=0.0):
        """x inside its padding, and inside as much more as the last windows reach: ceil_mode has them beyond it."""
        ends = [
            max(size + sum(sides), (count - 1) * step + (extent - 1) * spread + 1)
            for size, sides, count, step, extent, spread in zip(
                x.shape[1:3], self.padding, self.outputs, self.stride, self.size, self.dilation, strict=True
            )
        ]
        widths = [(lo, end - size - lo) for (lo, _), end, size in zip(self.padding, ends, x.shape[1:3], strict=True)]
        return np.pad(x, [(0, 0), *widths, (0, 0)], constant_values=value)

    def unpad(self, padded, h, w):
        (top, _), (left, _) = self.padding
        return padded[:, top : top + h, left : left + w]


def sides(size, window, stride, dilation, padding):
    """((top, bottom), (left, right)) of any form of padding. "same": output ceil(size / stride), surplus at the end."""
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding == "same":
        totals = [
            max(0, (-(-n // step) - 1) * step + (extent - 1) * spread + 1 - n)
            for n, extent, step, spread in zip(size, window, stride, dilation, strict=True)
        ]
        return tuple((total // 2, total - total // 2) for total in totals)
    rows, columns = (padding, padding) if isinstance(padding, int) else padding
    return tuple((side, side) if isinstance(side, int) else tuple(side) for side in (rows, columns))


def windows(x, size, stride, padding="valid", dilation=(1, 1), ceil_mode=False):
    padding = sides(x.shape[1:3], size, stride, dilation, padding)
    outputs = []
    for n, extent, step, spread, (lo, hi) in zip(x.shape[1:3], size, stride, dilation, padding, strict=True):
        room = n + lo + hi - (extent - 1) * spread - 1
        count = room // step + 1
        if ceil_mode and room % step and count * step < n + lo:  # one more, unless it started beyond the input
            count += 1
        outputs.append(count)
    return Windows(size, tuple(outputs), stride, dilation, padding)


# -- convolution and dense --------------------------------------------------------------------------------------------


def conv2d(x, w, b=None, stride=(1, 1), padding="valid", dilation=(1, 1), groups=1):
    """y[n,p,q,k] = b[k] + Σ_rsc x[n, p·stride + r·dilation, q·stride + s·dilation, c] · w[r,s,c,k]."""
    over = windows(x, w.shape[:2], stride, padding, dilation)
    padded, y = over.pad(x), np.zeros((len(x), *over.outputs, w.shape[3]))
    for c, k in group_slices(x, w, groups):
        for i, j in over.taps:
            y[..., k] += np.einsum("npqc,ck->npqk", over.view(padded, i, j)[..., c], w[i, j, :, k])
    return y if b is None else y + b


def conv2d_gradients(dy, x, w, stride=(1, 1), padding="valid", dilation=(1, 1), groups=1):
    """dx, dw, db: each tap hands dy·wᵀ back to the pixels it met, and meets them once more for its own gradient."""
    over = windows(x, w.shape[:2], stride, padding, dilation)
    padded, dw = over.pad(x), np.zeros(w.shape)
    dx = np.zeros(padded.shape)
    for c, k in group_slices(x, w, groups):
        for i, j in over.taps:
            over.view(dx, i, j)[..., c] += np.einsum("npqk,ck->npqc", dy[..., k], w[i, j, :, k])
            dw[i, j, :, k] = np.einsum("npqc,npqk->ck", over.view(padded, i, j)[..., c], dy[..., k])
    return over.unpad(dx, *x.shape[1:3]), dw, dy.sum((0, 1, 2))


def conv2d_transpose(x, w, b, size, stride, padding, dilation, groups=1):
    """Every tap lays x·wᵀ over the output of ``size``; ``padding`` is cut off. w: R×S×K/groups×C."""
    over = Windows(w.shape[:2], x.shape[1:3], stride, dilation, padding)
    y = np.zeros((len(x), *size, w.shape[2] * groups))
    padded = over.pad(y)
    for k, c in group_slices(y, w, groups):
        for i, j in over.taps:
            over.view(padded, i, j)[..., k] += np.einsum("npqc,kc->npqk", x[..., c], w[i, j, :, c])
    y = over.unpad(padded, *size)
    return y if b is None else y + b


def conv2d_transpose_gradients(dy, x, w, stride, padding, dilation, groups=1):
    """dx, dw, db: each tap sees in dy what it laid there."""
    over = Windows(w.shape[:2], x.shape[1:3], stride, dilation, padding)
    padded, dx, dw = over.pad(dy), np.zeros(x.shape), np.zeros(w.shape)
    for k, c in group_slices(dy, w, groups):
        for i, j in over.taps:
            seen = over.view(padded, i, j)[..., k]
            dx[..., c] += np.einsum("npqk,kc->npqc", seen, w[i, j, :, c])
            dw[i, j, :, c] = np.einsum("npqk,npqc->kc", seen, x[..., c])
    return dx, dw, dy.sum((0, 1, 2))


def group_slices(x, w, groups):
    """The input and the output channels of each group."""
    c, k = x.shape[3] // groups, w.shape[3] // groups
    return [(slice(g * c, g * c + c), slice(g * k, g * k + k)) for g in range(groups)]


def dense(x, w, b=None):
    return x @ w if b is None else x @ w + b


def dense_gradients(dy, x, w):
    return dy @ w.T, x.T @ dy, dy.sum(0)


# -- pooling ----------------------------------------------------------------------------------------------------------


def max_pool2d(x, size, stride, padding="valid", ceil_mode=False):
    """The largest pixel of each window; padding counts as −∞. NaN wins."""
    over = windows(x, size, stride, padding, ceil_mode=ceil_mode)
    return _stacked(x, over).max(0)


def max_pool2d_gradient(dy, x, size, stride, padding="valid", ceil_mode=False):
    """Each window's gradient goes to the first of its largest pixels."""
    over = windows(x, size, stride, padding, ceil_mode=ceil_mode)
    first = _stacked(x, over).argmax(0)
    dx = np.zeros(over.pad(x).shape)
    for place, (i, j) in enumerate(over.taps):
        over.view(dx, i, j)[...] += dy * (first == place)
    return over.unpad(dx, *x.shape[1:3])


def _stacked(x, over):
    padded = over.pad(x, -np.inf)
    return np.stack([over.view(padded, i, j) for i, j in over.taps])


def avg_pool2d(x, size, stride, padding="valid", ceil_mode=False, count_include_pad=True):
    """The sum of each window over its number of pixels."""
    over = windows(x, size, stride, padding, ceil_mode=ceil_mode)
    padded = over.pad(x)
    return sum(over.view(padded, i, j) for i, j in over.taps) / _counts(x, over, count_include_pad)


def avg_pool2d_gradient(dy, x, size, stride, padding="valid", ceil_mode=False, count_include_pad=True):
    over = windows(x, size, stride, padding, ceil_mode=ceil_mode)
    dx = np.zeros(over.pad(x).shape)
    for i, j in over.taps:
        over.view(dx, i, j)[...] += dy / _counts(x, over, count_include_pad)
    return over.unpad(dx, *x.shape[1:3])


def _counts(x, over, count_include_pad):
    """How many pixels of the input each window holds, and of the declared padding where that counts."""
    ones = np.ones((1, *x.shape[1:3], 1))
    if count_include_pad:
        ones = np.pad(ones, [(0, 0), *over.padding, (0, 0)], constant_values=1.0)
        over = over._replace(padding=((0, 0), (0, 0)))
    padded = over.pad(ones)
    return sum(over.view(padded, i, j) for i, j in over.taps)


def adaptive_pool2d(x, output_size, largest=False):
    """The mean of each bin, or the largest pixel."""
    y = np.empty((len(x), *output_size, x.shape[3]))
    for p, q, rows, columns in bins(x, output_size):
        y[:, p, q] = getattr(x[:, rows, columns], "max" if largest else "mean")((1, 2))
    return y


def adaptive_avg_pool2d_gradient(dy, x, output_size):
    dx = np.zeros(x.shape)
    for p, q, rows, columns in bins(x, output_size):
        part = dx[:, rows, columns]
        part += dy[:, p, q][:, None, None] / part[0, ..., 0].size
    return dx


def adaptive_max_pool2d_gradient(dy, x, output_size):
    """Each bin's gradient goes to the first of its largest pixels."""
    dx = np.zeros(x.shape)
    n, c = np.ogrid[: len(x), : x.shape[3]]
    for p, q, rows, columns in bins(x, output_size):
        pixels = x[:, rows, columns]
        i, j = np.divmod(pixels.reshape(len(x), -1, x.shape[3]).argmax(1), pixels.shape[2])
        dx[:, rows, columns][n, i, j, c] += dy[:, p, q]
    return dx


def bins(x, output_size):
    """(p, q, rows, columns) of each bin: bin p of P over h pixels is [⌊p·h/P⌋, ⌈(p+1)·h/P⌉)."""
    rows, columns = (
        [slice(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]
        for size, count in zip(x.shape[1:3], output_size, strict=True)
    )
    return [(p, q, rows[p], columns[q]) for p in range(len(rows)) for q in range(len(columns))]


# -- other sizes and shapes -------------------------------------------------------------------------------------------


def up_sampling(size, factor, mode):
    """The matrix from ``size`` pixels to size·factor, for one axis of the image."""
    matrix = np.zeros((size * factor, size))
    for p in range(size * factor):
        if mode == "nearest":
            matrix[p, p // factor] = 1
        else:  # pixels are squares; beyond the outer centres the outer pixels go on
            place = min(max((p + 0.5) / factor - 0.5, 0), size - 1)
            first = min(int(place), max(size - 2, 0))
            matrix[p, first] += 1 - (place - first)
            matrix[p, min(first + 1, size - 1)] += place - first
    return matrix


def upsample2d(x, factor, mode):
    rows, columns = (up_sampling(size, f, mode) for size, f in zip(x.shape[1:3], factor, strict=True))
    return np.einsum("ph,qw,nhwc->npqc", rows, columns, x)


def upsample2d_gradient(dy, x, factor, mode):
    rows, columns = (up_sampling(size, f, mode) for size, f in zip(x.shape[1:3], factor, strict=True))
    return np.einsum("ph,qw,npqc->nhwc", rows, columns, dy)


def zero_pad2d(x, padding):
    return np.pad(x, [(0, 0), *sides(None, None, None, None, padding), (0, 0)])


def zero_pad2d_gradient(dy, x, padding):
    (top, _), (left, _) = sides(None, None, None, None, padding)
    return dy[:, top : top + x.shape[1], left : left + x.shape[2]]


# -- element by element -----------------------------------------------------------------------------------------------


def relu(x):
    return np.maximum(x, 0)


def relu_gradient(dy, x):
    return np.where(x <= 0, 0, dy)


def tanh(x):
    return np.tanh(x)


def tanh_gradient(dy, x):
    return dy * (1 - np.tanh(x) ** 2)


def sigmoid(x):
    return np.exp(-np.logaddexp(0, -x))


def sigmoid_gradient(dy, x):
    return dy * sigmoid(x) * sigmoid(-x)


def relu6(x):
    return np.clip(x, 0, 6)


def relu6_gradient(dy, x):
    return np.where((x <= 0) | (x >= 6), 0, dy)


def leaky_relu(x, slope):
    return np.where(x < 0, slope * x, x)


def leaky_relu_gradient(dy, x, slope):
    return np.where(x > 0, dy, slope * dy)


def prelu(x, w):
    return np.where(x < 0, w * x, x)


def prelu_gradients(dy, x, w):
    return np.where(x > 0, dy, w * dy), np.where(x > 0, 0, dy * x).sum(tuple(range(x.ndim - 1)))


def elu(x, alpha):
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def elu_gradient(dy, x, alpha):
    return dy * np.where(x > 0, 1, alpha * np.exp(np.minimum(x, 0)))


def hardsigmoid(x):
    return np.clip(x + 3, 0, 6) / 6


def hardsigmoid_gradient(dy, x):
    return np.where(np.abs(x) < 3, dy / 6, 0)


def hardswish(x):
    return x * hardsigmoid(x)


def hardswish_gradient(dy, x):
    return dy * hardsigmoid(x) + x * hardsigmoid_gradient(dy, x)


def silu(x):
    return x * sigmoid(x)


def silu_gradient(dy, x):
    return dy * sigmoid(x) + x * sigmoid_gradient(dy, x)


def gelu(x, approximate):
    return x * _normal_distribution(x, approximate)[0]


def gelu_gradient(dy, x, approximate):
    distribution, density = _normal_distribution(x, approximate)
    return dy * (distribution + x * density)


def _normal_distribution(x, approximate):
    """The normal distribution and its density, or what stands for them in the approximation."""
    if approximate == "tanh":
        inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
        slope = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x**2)
        return (1 + np.tanh(inner)) / 2, tanh_gradient(slope, inner) / 2
    return np.vectorize(math.erfc)(-x / math.sqrt(2)) / 2, np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def softmax_gradient(dy, x):
    y = softmax(x)
    return y * (dy - (dy * y).sum(-1, keepdims=True))


# -- normalisation ----------------------------------------------------------------------------------------------------


def normalized(x, axes, eps):
    """(x − mean) / √(variance + eps) over ``axes``, and that deviation."""
    deviation = np.sqrt(x.var(axes, keepdims=True) + eps)
    return (x - x.mean(axes, keepdims=True)) / deviation, deviation


def normalized_gradient(dy, x, axes, eps):
    """dy less what of it moves mean and deviation, which the normalisation undoes."""
    y, deviation = normalized(x, axes, eps)
    return (dy - dy.mean(axes, keepdims=True) - y * (dy * y).mean(axes, keepdims=True)) / deviation


def batch_norm(x, weight, bias, eps):
    return normalized(x, _but_last(x), eps)[0] * weight + bias


def batch_norm_gradients(dy, x, weight, eps):
    """dx, dw, db."""
    axes = _but_last(x)
    return normalized_gradient(dy * weight, x, axes, eps), (dy * normalized(x, axes, eps)[0]).sum(axes), dy.sum(axes)


def batch_norm_inference(x, weight, bias, mean, variance, eps):
    return (x - mean) / np.sqrt(variance + eps) * weight + bias


def group_norm(x, weight, bias, groups, eps):
    return normalized(_grouped(x, groups), (1, 3), eps)[0].reshape(x.shape) * weight + bias


def group_norm_gradients(dy, x, weight, groups, eps):
    """dx, dw, db."""
    grouped, axes = _grouped(x, groups), _but_last(x)
    dx = normalized_gradient(_grouped(dy * weight, groups), grouped, (1, 3), eps).reshape(x.shape)
    return dx, (dy * normalized(grouped, (1, 3), eps)[0].reshape(x.shape)).sum(axes), dy.sum(axes)


def _but_last(x):
    return tuple(range(x.ndim - 1))


def _grouped(x, groups):
    """images × pixels × groups × channels of a group."""
    return x.reshape(len(x), -1, groups, x.shape[-1] // groups)


def local_response_norm(x, size, alpha, beta, k):
    return x * _neighbours(x, size, alpha, k) ** -beta


def local_response_norm_gradient(dy, x, size, alpha, beta, k):
    """Channel by channel: each output's own share, and what its window's channels have in its scale."""
    scale, dx = _neighbours(x, size, alpha, k), np.zeros(x.shape)
    for c in range(x.shape[-1]):
        dx[..., c] += dy[..., c] * scale[..., c] ** -beta
        window = slice(max(0, c - size // 2), c + (size - 1) // 2 + 1)
        pull = dy[..., c] * x[..., c] * beta * scale[..., c] ** (-beta - 1)
        dx[..., window] -= pull[..., None] * 2 * alpha / size * x[..., window]
    return dx


def _neighbours(x, size, alpha, k):
    """k + alpha/size · Σ x² over the channels c − size//2 … c + (size − 1)//2."""
    squares = np.pad(x**2, [(0, 0)] * (x.ndim - 1) + [(size // 2, (size - 1) // 2)])
    return k + alpha / size * sum(squares[..., d : d + x.shape[-1]] for d in range(size))


# -- dropout: key = (seed, step, stream) ------------------------------------------------------------------------------


def philox(counter, key):
    """Philox 4×32-10 of Salmon et al. 2011: words 4×… of counters 4×… and a key of two words, all below 2³²."""
    c, k = [np.asarray(word, np.uint64) for word in counter], [np.uint64(word) for word in key]
    low, half = np.uint64(2**32 - 1), np.uint64(32)
    for _ in range(10):
        a, b = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [b >> half ^ c[1] ^ k[0], b & low, a >> half ^ c[3] ^ k[1], a & low]
        k = [k[0] + np.uint64(0x9E3779B9) & low, k[1] + np.uint64(0xBB67AE85) & low]
    return np.stack(c)


def dropout_factors(shape, rate, key):
    """0 or 1 / (1 − rate) for each element of images N×H×W×C: each row (n, h) takes words of whole blocks of four."""
    (seed, step, stream), (n, h, w, c) = key, shape
    blocks = -(-w * c // 4)
    block, image = np.meshgrid(np.arange(h * blocks), np.arange(n))
    counter = (block, image, np.full(block.shape, step), np.full(block.shape, stream))
    words = np.moveaxis(philox(counter, (seed % 2**32, seed >> 32)), 0, -1)
    rows = words.reshape(n, h, 4 * blocks)[:, :, : w * c]
    return np.where(rows < round(rate * 2**32), 0, 1 / (1 - rate)).reshape(shape)


def dropout(x, rate, key):
    image = x.reshape(len(x), 1, 1, -1) if x.ndim == 2 else x
    return x * dropout_factors(image.shape, rate, key).reshape(x.shape)


def spatial_dropout(x, rate, key):
    return x * dropout_factors((len(x), 1, 1, x.shape[3]), rate, key)


# -- augmentation -----------------------------------------------------------------------------------------------------


def augment_words(blocks, index, epoch, purpose, seed):
    """The words of so many blocks, one after the other."""
    each = np.arange(blocks)
    counter = (each, *(np.full(blocks, word) for word in (index, epoch, 0xA4630000 + purpose)))
    return philox(counter, (seed % 2**32, seed >> 32)).T.reshape(-1)


def augment_uniforms(index, epoch, seed, places):
    """Eight numbers in [0, 1) for each place of a chain."""
    return (augment_words(2 * places, index, epoch, 0, seed) >> np.uint64(8)).reshape(places, 8) / 2**24


def warp(x, matrices, field, fill):
    """Bilinear: x (N, H, W, C), matrices (N, 6), field (N, 2, H, W) or None."""
    n, height, width, _ = x.shape
    padded = np.pad(x.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=fill)
    h, w = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    y = np.empty(x.shape)
    for image in range(n):
        dx, dy = (0, 0) if field is None else field[image].astype(np.float64)
        a, b, t, c, d, u = matrices[image].astype(np.float64)
        # One pixel of fill around is as good as any number of them.
        j = np.clip(a * (w + dx) + b * (h + dy) + t, -1, width) + 1
        i = np.clip(c * (w + dx) + d * (h + dy) + u, -1, height) + 1
        top, left = np.minimum(i.astype(int), height), np.minimum(j.astype(int), width)
        down, across = (i - top)[..., None], (j - left)[..., None]
        above = (1 - across) * padded[image, top, left] + across * padded[image, top, left + 1]
        below = (1 - across) * padded[image, top + 1, left] + across * padded[image, top + 1, left + 1]
        y[image] = (1 - down) * above + down * below
    return y


def elastic_field(height, width, index, epoch, purpose, seed, alpha, weights):
    """Displacements (2, H, W) of one image: along x, along y."""
    blocks = -(-height * width // 4)
    words = augment_words(2 * blocks, index, epoch, purpose, seed).reshape(2, 4 * blocks)[:, : height * width]
    planes = (words >> np.uint64(8)).reshape(2, width, height).transpose(0, 2, 1) / 2**23 - 1
    radius = len(weights) // 2
    for axis in (1, 2):
        size = planes.shape[axis]
        planes = np.apply_along_axis(lambda line: np.convolve(line, weights)[radius : radius + size], axis, planes)  # noqa: B023
    return alpha * planes


# -- losses: value and gradient by the output -------------------------------------------------------------------------


def one_hot(labels, classes):
    return np.eye(classes)[labels]


def cross_entropy(logits, target, label_smoothing=0.0, class_weights=None, ignore_index=None):
    """−Σ_c w_c·q_c·log softmax(logits)_c with q = (1 − ε)·p + ε/C, over the sum of the labels' weights, or the rows."""
    weights = np.ones(logits.shape[-1]) if class_weights is None else np.asarray(class_weights)
    p, counted, total = _distribution(logits, target, weights, ignore_index)
    q = weights * ((1 - label_smoothing) * p + label_smoothing / logits.shape[-1]) * counted
    gradient = softmax(logits) * q.sum(-1, keepdims=True) - q
    return -(q * log_softmax(logits)).sum() / total, gradient / total


def focal(logits, labels, gamma=2.0, class_weights=None, ignore_index=None):
    """−w_y·(1 − p_y)^γ·log p_y, over the sum of w_y; its derivative by p_y passed on through the softmax."""
    weights = np.ones(logits.shape[-1]) if class_weights is None else np.asarray(class_weights)
    onehot, counted, total = _distribution(logits, labels, weights, ignore_index)
    weight = (onehot * weights * counted).sum(-1, keepdims=True)
    log_p = (log_softmax(logits) * onehot).sum(-1, keepdims=True)
    p = np.exp(log_p)
    slope = gamma * (1 - p) ** (gamma - 1) * log_p - (1 - p) ** gamma / p
    gradient = weight * slope * softmax_gradient(onehot, logits)
    return -(weight * (1 - p) ** gamma * log_p).sum() / total, gradient / total


def _distribution(logits, target, weights, ignore_index):
    """The target's probabilities, 1 or 0 for rows that count or not, and what their sum is divided by."""
    if np.issubdtype(target.dtype, np.floating):
        return target, np.ones((*logits.shape[:-1], 1)), logits[..., 0].size
    counted = np.ones(target.shape, bool) if ignore_index is None else target != ignore_index
    labels = np.where(counted, target, 0)
    return one_hot(labels, logits.shape[-1]), counted[..., None].astype(float), (weights[labels] * counted).sum()


def log_softmax(x):
    shifted = x - x.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def binary_cross_entropy(x, target, pos_weight=1.0):
    weight = np.asarray(pos_weight) * target
    losses = weight * np.logaddexp(0, -x) + (1 - target) * np.logaddexp(0, x)
    return losses.mean(), ((1 - target) * sigmoid(x) - weight * sigmoid(-x)) / x.size


def sigmoid_focal(x, target, gamma=2.0, alpha=0.25):
    """Of p_t = sigmoid(±x): −α_t·(1 − p_t)^γ·log p_t."""
    sign, weight = 2 * target - 1, np.where(target == 1, alpha, 1 - alpha)
    p, q = sigmoid(sign * x), sigmoid(-sign * x)
    by_p = gamma * q ** (gamma - 1) * np.log(p) - q**gamma / p
    return (-weight * q**gamma * np.log(p)).mean(), sign * weight * by_p * p * q / x.size


def mse(outputs, targets):
    return ((outputs - targets) ** 2).mean(), 2 * (outputs - targets) / outputs.size


def l1(outputs, targets):
    return np.abs(outputs - targets).mean(), np.sign(outputs - targets) / outputs.size


def huber(outputs, targets, delta=1.0):
    d = outputs - targets
    losses = np.where(np.abs(d) <= delta, d**2 / 2, delta * (np.abs(d) - delta / 2))
    return losses.mean(), np.clip(d, -delta, delta) / d.size


def dice(x, target, activation="softmax", smooth=1.0):
    """1 − (2·Σpt + s) / (Σp² + Σt² + s) over each image's pixels, mean over classes and images."""
    pixels = tuple(range(1, x.ndim - 1))
    p = softmax(x) if activation == "softmax" else sigmoid(x)
    above = 2 * (p * target).sum(pixels, keepdims=True) + smooth
    below = (p**2 + target**2).sum(pixels, keepdims=True) + smooth
    by_p = -(2 * target / below - above * 2 * p / below**2) / above.size
    gradient = softmax_gradient(by_p, x) if activation == "softmax" else by_p * p * (1 - p)
    return (1 - above / below).mean(), gradient


# -- optimisers: each returns the new weights and its state -----------------------------------------------------------


def sgd(w, dw, state, learning_rate, momentum=0.0, nesterov=False, weight_decay=0.0):
    gradient = dw + weight_decay * w
    velocity = momentum * (0.0 if state is None else state) + gradient
    step = gradient + momentum * velocity if nesterov else velocity
    return w - learning_rate * step, velocity


def adam(w, dw, state, learning_rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    mean, square, step = state or (0.0, 0.0, 0)
    gradient, step = dw + weight_decay * w, step + 1
    mean = betas[0] * mean + (1 - betas[0]) * gradient
    square = betas[1] * square + (1 - betas[1]) * gradient**2
    unbiased, deviation = mean / (1 - betas[0] ** step), np.sqrt(square / (1 - betas[1] ** step))
    return w - learning_rate * unbiased / (deviation + eps), (mean, square, step)


def adamw(w, dw, state, learning_rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    return adam((1 - learning_rate * weight_decay) * w, dw, state, learning_rate, betas, eps)


def lamb(w, dw, state, learning_rate, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.01):
    stepped, state = adam(w, dw, state, 1.0, betas, eps)
    direction = w - stepped + weight_decay * w
    norms = np.linalg.norm(w), np.linalg.norm(direction)
    return w - learning_rate * (norms[0] / norms[1] if min(norms) > 0 else 1.0) * direction, state


def rmsprop(w, dw, state, learning_rate, alpha=0.99, eps=1e-8, momentum=0.0, centered=False, weight_decay=0.0):
    square, mean, velocity = state or (0.0, 0.0, 0.0)
    gradient = dw + weight_decay * w
    square, mean = alpha * square + (1 - alpha) * gradient**2, alpha * mean + (1 - alpha) * gradient
    velocity = momentum * velocity + gradient / (np.sqrt(square - (mean**2 if centered else 0.0)) + eps)
    return w - learning_rate * velocity, (square, mean, velocity)


def adagrad(w, dw, state, learning_rate, eps=1e-10, initial_accumulator=0.0, weight_decay=0.0):
    gradient = dw + weight_decay * w
    total = (initial_accumulator if state is None else state) + gradient**2
    return w - learning_rate * gradient / (np.sqrt(total) + eps), total


def muon(w, dw, state, learning_rate, momentum=0.95, nesterov=True, weight_decay=0.0, iterations=5):
    """Matrices by Jordan 2024, whose columns are the last axis."""
    mean = momentum * (0.0 if state is None else state) + (1 - momentum) * dw
    x = ((1 - momentum) * dw + momentum * mean if nesterov else mean).reshape(-1, w.shape[-1])
    x = orthogonalized(x, iterations)
    wide = np.sqrt(max(1, x.shape[1] / x.shape[0]))
    return (1 - learning_rate * weight_decay) * w - learning_rate * wide * x.reshape(w.shape), mean


def orthogonalized(x, iterations):
    """U·p(S)·Vᵀ of x = U·S·Vᵀ, with the quintic p of Newton and Schulz again and again: by its definition."""
    u, s, v = np.linalg.svd(x / np.linalg.norm(x), full_matrices=False)
    for _ in range(iterations):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return u * s @ v


def detection(x, target, box_weight=2.0, beta=0.1):
    """Σ over cells of BCE(presence) + present·(box_weight·Σ smooth_l1(box) + cross-entropy), over the images."""
    present = target[..., :1]
    gradient = np.zeros_like(x)
    total = (np.logaddexp(0, x[..., :1]) - present * x[..., :1]).sum()
    gradient[..., :1] = sigmoid(x[..., :1]) - present
    d = x[..., 1:5] - target[..., 1:5]
    smooth = np.where(np.abs(d) <= beta, d**2 / (2 * beta), np.abs(d) - beta / 2)
    total += box_weight * (present * smooth).sum()
    gradient[..., 1:5] = box_weight * present * np.clip(d / beta, -1, 1)
    onehot = one_hot(target[..., 5].astype(int), x.shape[-1] - 5)
    total -= (present * onehot * log_softmax(x[..., 5:])).sum()
    gradient[..., 5:] = present * (softmax(x[..., 5:]) - onehot)
    return total / len(x), gradient / len(x)
