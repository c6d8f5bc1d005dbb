"""Launchers in NumPy, for devices whose arrays are NumPy arrays: batches, targets, and the sums of a training step.

They do little work compared with a step: a batch's labels and a few sums. Labels are int64, a class for each image or
pixel, or float32 N×C, the probabilities of the classes, or boxes N×M×5 as in ``numbacnn.detection``. ``partial`` has a
row of SUM_GROUPS partial sums for each quantity; only their total matters.
"""

from collections.abc import Callable

import numpy as np

from numbacnn.kernels.decision import STEP, StepTotals, decide, set_scalars
from numbacnn.kernels.recording import recordable
from numbacnn.kernels.registry import register

BOX_NUMBERS = 5  # of a detector's cell before its classes: a presence and a box
NO_BOX = -1  # the class in rows without a box, ``numbacnn.detection.PADDING``

LAUNCHERS: list[Callable[..., None]] = []


def numpy_launcher(function: Callable[..., None]) -> Callable[..., None]:
    """A launcher of every device whose arrays are NumPy arrays."""
    LAUNCHERS.append(recordable(function))
    return LAUNCHERS[-1]


def register_all(module: str) -> None:
    """Register these launchers with the device of ``module``."""
    for launch in LAUNCHERS:
        register(module, launch)


# -- batches ----------------------------------------------------------------------------------------------------------


@numpy_launcher
def take_indices(indices, order, counters, batch_size):
    """indices[i] = order[step · batch_size + i], the images of step ``counters[STEP]``."""
    indices[:] = order[counters[STEP] * batch_size :][: len(indices)]


@numpy_launcher
def gather_rows(y, x, indices):
    """y[i] = x[indices[i]]. y: n×M, float32 or int64; x: N×M, of the same type or bytes."""
    y[...] = x[indices]


@numpy_launcher
def gather_images(y, x, indices, scale, shift):
    """y[i] = x[indices[i]] · scale + shift. y: n×H×W×C; x: N·H × W·C, bytes or float32; scale, shift: W·C."""
    rows = x.reshape(-1, y.shape[1], x.shape[1])[indices]
    y[...] = (rows.astype(np.float32) * scale + shift).reshape(y.shape)


# -- labels of transformed images -------------------------------------------------------------------------------------


@numpy_launcher
def convert(y, x):
    """y = x as another type: int64 to float32, or float32 to int64, which truncates. y, x: of equal shape."""
    y[...] = x


@numpy_launcher
def mix_labels(labels, theirs, shares):
    """labels = (1 − share) · labels + share · theirs for each image. labels, theirs: N×…×C; shares: N."""
    share = shares.reshape(-1, *(1,) * (labels.ndim - 1))
    labels[...] = (1 - share) * labels + share * theirs


@numpy_launcher
def move_boxes(y, x, matrices, field, height, width, min_visible):
    """Move boxes N×M×5 as their images H×W are warped, each to the bounding box of the new pixels that come from it.

    A box is dropped, and becomes zeros, unless more than the fraction ``min_visible`` of it stays.
    """
    y[...] = (0, 0, 0, 0, NO_BOX)
    a, b, _, c, d, _ = matrices.T
    scales = np.abs(a * d - b * c).astype(np.float32)  # pixels of the old image per pixel of the new one
    for new, old, points, scale in zip(y, x, _sources(matrices, field, height, width), scales, strict=True):
        inside = (points >= old[:, None, None, :2]) & (points < old[:, None, None, 2:4])
        sides = np.maximum(old[:, 2:4] - old[:, :2], 0)
        smallest = min_visible * (sides[:, 0] * sides[:, 1]) / scale
        for target, box, marked, pixels in zip(new, old, np.all(inside, axis=-1), smallest, strict=True):
            h, w = np.nonzero(marked)
            if len(h) > pixels:
                target[:] = w.min(), h.min(), w.max() + 1, h.max() + 1, box[4]


def _sources(matrices, field, height, width):
    """The centers, in pixels from the top left corner, of the sources of each pixel's center, N×H×W×2."""
    h, w = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    points = np.tile(np.stack([w, h], -1).astype(np.float32), (len(matrices), 1, 1, 1))
    if len(field):
        points += field.reshape(-1, 2, height, width).transpose(0, 2, 3, 1)
    matrices = matrices.reshape(-1, 1, 2, 3)
    linear = points.reshape(len(points), -1, 2) @ matrices[:, 0, :, :2].transpose(0, 2, 1)
    return (linear + matrices[..., 2]).reshape(points.shape).astype(np.float32) + 0.5


# -- targets ----------------------------------------------------------------------------------------------------------


@numpy_launcher
def one_hot(y, labels):
    """y[i, c] = 1 if c is label i, else 0; the label itself if there is one channel. y: n×C; labels: n."""
    y[...] = labels[:, None] if y.shape[1] == 1 else labels[:, None] == np.arange(y.shape[1])


@numpy_launcher
def encode_boxes(y, boxes, height, width):
    """The target of each cell of a detector's grid, n×h×w×6, from boxes in images H×W; see ``tasks.detection``.

    If the centers of several boxes are in one cell, the smallest counts, and of equal ones the last.
    """
    _, h, w, _ = y.shape
    y[...] = 0
    image, row = np.nonzero(boxes[..., 4] != NO_BOX)
    found = boxes[image, row]
    cell = np.array([width / w, height / h], np.float32)
    centers, sides = (found[:, :2] + found[:, 2:4]) / (2 * cell), (found[:, 2:4] - found[:, :2]) / cell
    cells = np.minimum(centers.astype(np.int64), (w - 1, h - 1))
    numbers = np.concatenate(
        [np.ones((len(found), 1)), centers - cells - 0.5, np.log(sides), found[:, 4:]], axis=1, dtype=np.float32
    )
    for i in np.argsort(-sides.prod(axis=1), kind="stable"):  # the last one written stays
        y[image[i], cells[i, 1], cells[i, 0]] = numbers[i]


# -- sums of a step ---------------------------------------------------------------------------------------------------


def _write(partial, *totals):
    partial[...] = 0
    partial[..., 0] = totals if len(totals) > 1 else totals[0]


@numpy_launcher
def sum_losses(partial, losses, scale):
    """Σ partial = scale · Σ losses."""
    _write(partial, scale * float(losses.sum(dtype=np.float64)))  # in NumPy's fixed pairwise order


@numpy_launcher
def sum_label_weights(partial, labels, weights, ignored):
    """Σ partial = Σ weights[label] over the labels that are not ``ignored``. weights: C."""
    _write(partial, weights[labels[labels != ignored]].sum())


@numpy_launcher
def divide_by_label_weights(partial, dx, weights, weight):
    """Multiply the sums of a loss and its gradient dx by weight / Σ weights[0], or by 0 if that sum is 0.

    weights: 2 × SUM_GROUPS; weights[1, 0] becomes the factor.
    """
    total = weights[0].sum()
    factor = weights[1, 0] = weight / total if total > 0 else 0.0
    partial *= factor
    dx *= np.float32(factor)


@numpy_launcher
def count_correct(partial, x, labels, ignored):
    """Σ partial[0] = pixels whose maximum in x, the first of equals, is at their label; Σ partial[1] = labels.

    Labels that are ``ignored`` do not count. x: N×H×W×C.
    """
    correct, counted = x.argmax(axis=-1).reshape(-1) == labels, labels != ignored
    _write(partial, np.count_nonzero(correct & counted), np.count_nonzero(counted))


@numpy_launcher
def count_correct_top1(partial, x, shares):
    """``count_correct`` with the class of the largest of ``shares``, N×1×1×C, the first of equals, as the label."""
    _write(partial, np.count_nonzero(x.argmax(axis=-1) == shares.argmax(axis=-1)), len(shares))


@numpy_launcher
def count_correct_objects(partial, x, target):
    """``count_correct`` of the classes in a detector's cells, over those with an object in the target."""
    present = target[..., 0] > 0
    found = x[present][:, BOX_NUMBERS:].argmax(axis=1)
    _write(partial, np.count_nonzero(found == target[present][:, BOX_NUMBERS]), len(found))


# -- the decision -----------------------------------------------------------------------------------------------------


@numpy_launcher
def decide_update(counters, sums, random, decision, scalars, partial, rates, numbers, form):
    """Decide whether the update is applied, and compute its scalars; see ``decide`` and ``set_scalars``.

    partial: the rows of sums of ``kernels.decision``; random: (seed, step) of the layers' random numbers, advanced.
    """
    squares, correct, counted, *losses = partial.sum(axis=1).tolist()
    loss = 0.0
    for part in losses:
        loss += part
    decide(counters, sums, decision, rates, StepTotals(squares, loss, correct, counted), form)
    set_scalars(scalars, counters, decision, rates, numbers)
    random[1] += np.uint64(1)
