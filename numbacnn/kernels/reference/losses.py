"""Losses and their gradients, pixel by pixel: features are images of one pixel.

Each stores ``losses``, one per pixel, and ``dx`` = scale · the gradient of their sum; what the sum is divided by is in
``scale``. x, dx, target: N×H×W×C.
"""

import numpy as np

from numbacnn.kernels.reference.activations import sigmoid
from numbacnn.kernels.reference.arrays import float64
from numbacnn.kernels.reference.softmax import log_softmax, through_softmax
from numbacnn.kernels.reference.softmax import softmax as probabilities
from numbacnn.kernels.registry import launcher


def times(weight, loss):
    """weight · loss, where 0 · ∞ is 0: an impossible class costs nothing if its weight is 0."""
    return np.multiply(weight, loss, out=np.zeros(np.broadcast_shapes(np.shape(weight), loss.shape)), where=weight != 0)


def by_pixel(x):
    """Reshape N×H×W×C to pixels × C."""
    return float64(x).reshape(-1, x.shape[-1])


def one_hot(labels, classes):
    """labels × classes: 1 at each label, else 0."""
    return (np.arange(classes) == np.asarray(labels)[:, None]).astype(np.float64)


# -- softmax and labels -----------------------------------------------------------------------------------------------


@launcher
def cross_entropy_labels(losses, dx, x, labels, weights, ignored, scale):
    """losses[i] = −Σ_c q[c] · log softmax(x[i])[c], q[c] = weights[0,c] · [c = labels[i]] + weights[1,c].

    Pixels whose label is ``ignored`` have neither loss nor gradient. weights: 1×C, or 2×C if labels are smoothed.
    """
    q = _smoothed(one_hot(labels, x.shape[-1]), weights) * (labels != ignored)[:, None]
    losses[...], dx[...] = _cross_entropy(x, q, scale)


@launcher
def cross_entropy_probabilities(losses, dx, x, target, weights, scale):
    """``cross_entropy_labels`` with q[c] = weights[0,c] · target[i,c] + weights[1,c]."""
    losses[...], dx[...] = _cross_entropy(x, _smoothed(by_pixel(target), weights), scale)


def _smoothed(p, weights):
    return p * weights[0] + (weights[1] if len(weights) == 2 else 0)


def _cross_entropy(x, q, scale):
    """−Σ q · log softmax(x), and scale · (softmax(x) · Σ q − q); both 0 where q is."""
    logits = by_pixel(x)
    total = q.sum(-1, keepdims=True)
    gradient = times(total, probabilities(logits)) - q
    return times(q, -log_softmax(logits)).sum(-1), scale * gradient.reshape(x.shape)


@launcher
def focal_labels(losses, dx, x, labels, weights, ignored, gamma, scale):
    """losses[i] = −weights[l] · (1 − p)^gamma · log p, p = softmax(x[i])[l], l the label (Lin et al. 2017, eq. 5).

    Pixels whose label is ``ignored`` have neither loss nor gradient. weights: C.
    """
    logits, label = by_pixel(x), one_hot(labels, x.shape[-1])
    weight = (label * weights).sum(-1) * (labels != ignored)
    negative_log = times(label, -log_softmax(logits)).sum(-1)
    each = probabilities(logits)
    p, q = (label * each).sum(-1), ((1 - label) * each).sum(-1)  # q is 1 − p, without cancellation
    losses[...] = times(weight * q**gamma, negative_log)
    # d loss / dp · p, where −log p / q tends to 1 as q goes to 0
    ratio = np.divide(negative_log, q, out=np.ones(len(q)), where=q > 0)
    slope = weight * q**gamma * (1 + gamma * times(p, ratio))
    gradient = times(slope[:, None], (1 - label) * each - label * q[:, None])
    dx[...] = scale * gradient.reshape(x.shape)


# -- element by element: the loss of a pixel is the mean over its channels --------------------------------------------


@launcher
def mean_squared_error(losses, dx, x, target, options, scale):
    """(x − t)². options: not used."""
    d = float64(x) - target
    _store(losses, dx, d**2, 2 * d, scale)


@launcher
def mean_absolute_error(losses, dx, x, target, options, scale):
    """|x − t|, whose slope at 0 is 0. options: not used."""
    d = float64(x) - target
    _store(losses, dx, abs(d), np.sign(d), scale)


@launcher
def huber(losses, dx, x, target, options, scale):
    """d² / 2 where |d| ≤ δ, else δ · (|d| − δ / 2), with d = x − t and δ = options[0]."""
    d, delta = float64(x) - target, float(options[0])
    loss = np.where(abs(d) <= delta, d**2 / 2, delta * (abs(d) - delta / 2))
    _store(losses, dx, loss, np.clip(d, -delta, delta), scale)


@launcher
def binary_cross_entropy(losses, dx, x, target, options, scale):
    """−options[c] · t · log σ(x) − (1 − t) · log σ(−x), σ the sigmoid and −log σ(x) = log(1 + e⁻ˣ)."""
    x = float64(x)
    yes, no = options * float64(target), 1 - float64(target)
    loss = times(yes, np.logaddexp(0, -x)) + times(no, np.logaddexp(0, x))
    _store(losses, dx, loss, no * sigmoid(x) - yes * sigmoid(-x), scale)


@launcher
def sigmoid_focal(losses, dx, x, target, options, scale):
    """−a · (1 − p)^γ · log p, (γ, α) = options; p = σ(x) and a = α where t is 1, p = σ(−x) and a = 1 − α where it is 0
    (Lin et al. 2017, equation 5)."""
    gamma, alpha = map(float, options)
    sign, weight = 2 * float64(target) - 1, np.where(target == 1, alpha, 1 - alpha)
    z = sign * float64(x)
    p, q, negative_log = sigmoid(z), sigmoid(-z), np.logaddexp(0, -z)
    factor = weight * q**gamma
    _store(losses, dx, times(factor, negative_log), -sign * factor * (q + gamma * times(p, negative_log)), scale)


def _store(losses, dx, loss, slope, scale):
    losses[...] = loss.mean(-1).reshape(-1)
    dx[...] = scale * slope / loss.shape[-1]


# -- overlap ----------------------------------------------------------------------------------------------------------


@launcher
def dice(losses, dx, x, target, sums, smooth, softmax, scale):
    """losses[i] = mean_c (1 − D[c]) of the pixel's image, D[c] = (2 Σ p·t + smooth) / (Σ p² + Σ t² + smooth), the sums
    over its pixels (Milletari et al. 2016, section 3, for each class).

    p = softmax(x), or σ(x) unless ``softmax``; sums: not used.
    """
    pixels = (1, 2)
    logits, t = float64(x), float64(target)
    p = probabilities(logits) if softmax else sigmoid(logits)
    above = 2 * (p * t).sum(pixels, keepdims=True) + smooth
    below = (p**2 + t**2).sum(pixels, keepdims=True) + smooth
    loss = (1 - above / below).mean(-1, keepdims=True)  # of each image
    losses[...] = np.broadcast_to(loss, (*x.shape[:3], 1)).reshape(-1)
    dp = -(2 * t / below - above * 2 * p / below**2) / x.shape[3]
    gradient = through_softmax(dp, p) if softmax else dp * p * (1 - p)
    dx[...] = scale * x.shape[1] * x.shape[2] * gradient  # each pixel has the image's loss


@launcher
def detection(losses, dx, x, target, class_weights, box_weight, beta, scale):
    """A one-stage detector's loss of each cell: BCE(presence) + present · (box_weight · Σ smooth_l1(box) +
    cross-entropy(class)).

    x: presence, four numbers of a box, and a logit for each class; target: N×H×W×6, 1 or 0, the four numbers, a class.
    smooth_l1 is d² / 2beta where |d| ≤ beta, else |d| − beta/2 (Girshick 2015, equation 3). class_weights: 1×C.
    """
    x, t, gradient = by_pixel(x), by_pixel(target), np.zeros((len(losses), x.shape[-1]))
    present = t[:, :1]
    loss = np.logaddexp(0, x[:, :1]) - present * x[:, :1]
    gradient[:, :1] = sigmoid(x[:, :1]) - present
    d = x[:, 1:5] - t[:, 1:5]
    smooth = np.where(abs(d) <= beta, d**2 / (2 * beta), abs(d) - beta / 2)
    loss += box_weight * present * smooth.sum(-1, keepdims=True)
    gradient[:, 1:5] = box_weight * present * np.clip(d / beta, -1, 1)
    q = present * one_hot(t[:, 5].astype(int), x.shape[-1] - 5) * class_weights[0]
    of_class, gradient[:, 5:] = _cross_entropy(x[:, 5:], q, 1.0)
    losses[...], dx[...] = loss[:, 0] + of_class, scale * gradient.reshape(dx.shape)
