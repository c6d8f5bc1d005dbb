"""The table of loss cases: options, shapes and targets, the same on every machine; tests/peers uses it too."""

import random
import zlib
from typing import NamedTuple

import numpy as np

import numbacnn as nc
from numbacnn.kernels.reference import launchers as reference
from numbacnn.kernels.reference.softmax import softmax

DRAWN = 50  # cases of each loss


class LossCase(NamedTuple):
    """A loss by name, its options, the shape of the outputs, and the kind of its targets."""

    name: str
    options: dict
    shape: tuple[int, ...]
    kind: str  # "labels", "probabilities", "bits" or "numbers"

    def __str__(self):
        options = " ".join(f"{key}={_short(value)}" for key, value in self.options.items())
        return f"{self.name} {options} of {'x'.join(map(str, self.shape))} {self.kind}"

    def arrays(self):
        """Return outputs, the target that is passed, and the target as the oracle takes it."""
        draw = np.random.default_rng(zlib.crc32(str(self).encode()))
        outputs = (3 * draw.standard_normal(self.shape)).astype(np.float32)
        if self.kind == "labels":
            labels = draw.integers(0, self.shape[-1], self.shape[:-1])
            if self.options.get("ignore_index") is not None:
                labels[draw.random(labels.shape) < 0.3] = self.options["ignore_index"]
                labels.flat[0] = 0
            dense = self.name not in ("cross_entropy", "focal") and self.options.get("ignore_index") is None
            return outputs, labels, np.eye(self.shape[-1])[labels] if dense else labels
        if self.kind == "probabilities":
            target = softmax(draw.standard_normal(self.shape)).astype(np.float32)
        elif self.kind == "bits":
            target = draw.integers(0, 2, self.shape)
        else:  # no difference below 0.01, so that the kink of |d| is not in the central difference
            apart = 2 * draw.standard_normal(self.shape)
            target = (outputs + apart + np.copysign(0.01, apart)).astype(np.float32)
        return outputs, target, target.astype(np.float64)

    def ours(self):
        """Return (loss, gradient) of the public function."""
        outputs, target, _ = self.arrays()
        return getattr(nc.losses, self.name)(outputs, target, **self.options)


def _short(value):
    return f"[{len(value)}]" if isinstance(value, list) else f"{value:g}" if isinstance(value, float) else value


def _weights(draw, classes):
    return [round(draw.uniform(0, 2), 3) for _ in range(classes - 1)] + [1.5]


def _label_options(draw, classes):
    options = {}
    if draw.random() < 0.5:
        options["class_weights"] = _weights(draw, classes)
    if draw.random() < 0.5:
        options["ignore_index"] = draw.choice([-100, 255, -1, classes - 1])
    return options


def _draw_cross_entropy(draw, classes):
    kind = draw.choice(["labels", "probabilities"])
    options = _label_options(draw, classes)
    if kind == "probabilities":
        options.pop("ignore_index", None)
    if draw.random() < 0.5:
        options["label_smoothing"] = draw.choice([0.1, 0.3, 1.0])
    return options, kind


def _draw_focal(draw, classes):
    return _label_options(draw, classes) | {"gamma": draw.choice([0.0, 0.5, 1.0, 2.0, 5.0])}, "labels"


def _draw_binary_cross_entropy(draw, classes):
    weight = draw.choice([None, round(draw.uniform(0, 3), 3), _weights(draw, classes)])
    return {} if weight is None else {"pos_weight": weight}, draw.choice(["labels", "probabilities", "bits"])


def _draw_sigmoid_focal(draw, classes):
    options = {"gamma": draw.choice([0.0, 0.5, 1.0, 2.0, 5.0]), "alpha": draw.choice([0.0, 0.25, 0.5, 1.0])}
    return options, draw.choice(["labels", "bits"])


def _draw_dice(draw, classes):
    options = {"activation": draw.choice(["softmax", "sigmoid"]), "smooth": draw.choice([1e-3, 1.0, 10.0])}
    return options, draw.choice(["labels", "probabilities", "bits"])


def _draw_cross_entropy_dice(draw, classes):  # one class is certain
    kind = "labels" if classes == 1 else draw.choice(["labels", "probabilities", "bits"])
    return {"smooth": draw.choice([1e-3, 1.0, 10.0])}, kind


DRAWS = {
    "cross_entropy": _draw_cross_entropy,
    "mse": lambda draw, classes: ({}, draw.choice(["labels", "probabilities", "numbers"])),
    "binary_cross_entropy": _draw_binary_cross_entropy,
    "l1": lambda draw, classes: ({}, "numbers"),
    "huber": lambda draw, classes: ({"delta": draw.choice([0.1, 1.0, 2.5])}, draw.choice(["labels", "numbers"])),
    "focal": _draw_focal,
    "sigmoid_focal": _draw_sigmoid_focal,
    "dice": _draw_dice,
    "cross_entropy_dice": _draw_cross_entropy_dice,
}
SIZES = (1, 2, 3, 5, 7, 9, 17)


def _draw(name):
    """Draw ``DRAWN`` different cases; labels need two classes."""
    draw, found = random.Random(zlib.crc32(name.encode())), {}
    while len(found) < DRAWN:
        classes = draw.choice([1, 2, 3, 5, 8, 19, 33])
        shape = (draw.choice(SIZES), *(draw.choice(SIZES) for _ in range(2 * draw.randint(0, 1))), classes)
        options, kind = DRAWS[name](draw, classes)
        case = LossCase(name, options, shape, kind)
        if kind != "labels" or classes > 1:
            found[str(case)] = case
    return list(found.values())


CASES = [
    LossCase("cross_entropy", {}, (1, 1), "labels"),
    LossCase("cross_entropy", {}, (64, 10), "labels"),
    LossCase("cross_entropy", {}, (300, 3), "probabilities"),
    LossCase("cross_entropy", {}, (2, 9, 11, 4), "labels"),
    LossCase("mse", {}, (3, 4), "numbers"),
    *[case for name in DRAWS for case in _draw(name)],
    *[
        case._replace(options=case.options | {"ignore_index": label})
        for name in ("dice", "cross_entropy_dice")
        for number, case in enumerate(case for case in _draw(name) if case.kind == "labels")
        for label in [(-100, 255, -1, 0)[number % 4]]
    ],
]


# -- the oracle -------------------------------------------------------------------------------------------------------

ELEMENTWISE = {  # name → the reference kernel, and its options from the loss's own and the number of channels
    "mse": (reference.mean_squared_error, lambda channels: ()),
    "l1": (reference.mean_absolute_error, lambda channels: ()),
    "huber": (reference.huber, lambda channels, delta=1.0: (delta,)),
    "binary_cross_entropy": (
        reference.binary_cross_entropy,
        lambda channels, pos_weight=1.0: np.resize(pos_weight, channels),
    ),
    "sigmoid_focal": (reference.sigmoid_focal, lambda channels, gamma=2.0, alpha=0.25: (gamma, alpha)),
}
NO_LABEL = -(2**40)


def oracle(name, outputs, target, **options):
    """(loss, gradient by the outputs) in float64: the reference kernel's losses of all pixels, over what is found here.

    target: labels for ``cross_entropy`` and ``focal``, or an array like the outputs.
    """
    c, shape = outputs.shape[-1], outputs.shape if outputs.ndim == 4 else (len(outputs), 1, 1, outputs.shape[-1])
    x, losses, dx = outputs.reshape(shape), np.empty(outputs[..., 0].size), np.empty(shape)
    total = losses.size
    if name in ELEMENTWISE:
        kernel, choose = ELEMENTWISE[name]
        kernel(losses, dx, x, target.reshape(shape), choose(c, **options), 1 / total)
    elif name in ("dice", "cross_entropy_dice"):
        found = [_of_image(name, *pair, **options) for pair in zip(x, target.reshape(len(x), -1), strict=True)]
        losses[:], dx[:] = np.repeat([loss for loss, _ in found], total // len(x)), [slope for _, slope in found]
        dx /= len(x)
    else:
        weights = np.array(options.get("class_weights", np.ones(c)))
        smoothing, ignored = options.get("label_smoothing", 0), options.get("ignore_index")
        smoothed = np.stack([(1 - smoothing) * weights, smoothing / c * weights])
        if np.issubdtype(target.dtype, np.floating):
            reference.cross_entropy_probabilities(losses, dx, x, target.reshape(shape), smoothed, 1 / total)
        else:
            labels, ignored = target.reshape(-1), NO_LABEL if ignored is None else ignored
            total = weights[labels[labels != ignored]].sum()
            if name == "focal":
                reference.focal_labels(losses, dx, x, labels, weights, ignored, options.get("gamma", 2.0), 1 / total)
            else:
                reference.cross_entropy_labels(losses, dx, x, labels, smoothed, ignored, 1 / total)
    return losses.sum() / total, dx.reshape(outputs.shape)


def _of_image(name, x, target, activation="softmax", smooth=1.0, ignore_index=None):
    """(loss, gradient) of an image H×W×C in float64: that of its pixels without the ignored ones as an image."""
    c, dx = x.shape[-1], np.zeros(x.shape)
    kept = np.ones(x.shape[:2], bool) if ignore_index is None else (target != ignore_index).reshape(x.shape[:2])
    if not kept.any():
        return 0.0, dx
    t = (target if ignore_index is None else np.eye(c)[np.where(kept.reshape(-1), target, 0)]).reshape(x.shape)
    x, t = x[kept].reshape(1, 1, -1, c), t[kept].reshape(1, 1, -1, c)
    losses, slope = np.empty(x.shape[2]), np.empty(x.shape)
    reference.dice(losses, slope, x, t, None, smooth, activation == "softmax", 1 / x.shape[2])
    loss, dx[kept] = losses.mean(), slope.reshape(-1, c)
    if name == "cross_entropy_dice":
        reference.cross_entropy_probabilities(losses, slope, x, t, np.ones((1, c)), 1 / x.shape[2])
        loss += losses.mean()
        dx[kept] += slope.reshape(-1, c)
    return loss, dx
