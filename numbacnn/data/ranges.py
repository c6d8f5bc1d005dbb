"""Scales of images: the numbers of black and white, from which floats of one scale are converted to another."""

import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from numbacnn.errors import ArgumentError

Floats = NDArray[np.float32]


class Scale(NamedTuple):
    """The numbers of black and of white."""

    low: float
    high: float

    @property
    def span(self) -> float:
        """The difference of white and black."""
        return self.high - self.low

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}"


UNIT, SIGNED, BYTES, WORDS = Scale(0, 1), Scale(-1, 1), Scale(0, 255), Scale(0, 65535)
_TOLERANCE = 0.1  # of the span, as interpolation overshoots


def scale_of(extremes: Scale, whole: bool = False) -> Scale | None:
    """Return the scale that floats with these extremes have, or None if that is uncertain.

    ``whole`` says that they are whole numbers, as 8-bit images are, however dark.
    """
    low, high = extremes
    for scale in (UNIT, SIGNED):
        margin = _TOLERANCE * scale.span
        reaches = scale is UNIT or low <= scale.low + margin
        if scale.low - margin <= low and high <= scale.high + margin and reaches:
            return scale
    for scale in (BYTES, WORDS):
        if low >= 0 and high <= scale.high and (high > scale.high / 2 or (whole and scale is BYTES)):
            return scale
    return None


def to_scale(images: Floats, fitted: Scale) -> Floats:
    """Return float images in the scale of a model's training images, whose extremes are ``fitted``.

    Images of another scale are converted with a warning if theirs is certain.

    Raises:
        ArgumentError: they are far outside, and no conversion is certain.
    """
    if not images.size or fitted.span == 0:
        return images
    finite = np.isfinite(images)  # training reports the others
    if not finite.any():
        return images
    given = Scale(float(images.min(where=finite, initial=np.inf)), float(images.max(where=finite, initial=-np.inf)))
    target = scale_of(fitted)
    found = scale_of(given, whole=given.high > 1 and _is_whole(images))
    if target is None:
        if given.low < fitted.low - 4 * fitted.span or given.high > fitted.high + 4 * fitted.span:
            raise _rejected(given, fitted, "convert them in the same way")
        return images
    if found == target or given.low == given.high == 0:
        return images
    if found is None or not _is_certain(images, given, found, target):
        margin = target.span / 2
        if given.low < target.low - margin or given.high > target.high + margin or found is not None:
            raise _rejected(given, target, f"pass numbers from {target}, or 8-bit images as uint8")
        return images
    if target == SIGNED and found == UNIT and given.low > 0:
        return images  # bright images of the model's own scale
    _note(f"images from {given}", target)
    factor = target.span / found.span
    return np.asarray(images * np.float32(factor) + np.float32(target.low - found.low * factor), np.float32)


def byte_scale(fitted: Scale) -> Scale:
    """Return the scale to which 8-bit images are converted; warns unless that is 0 to 1, as everywhere.

    Raises:
        ArgumentError: the training images, whose extremes are ``fitted``, are of no scale of images.
    """
    target = scale_of(fitted)
    if target is None:
        raise ArgumentError(
            f"8-bit images for a model that was trained on floats from {fitted}: convert them in the same way"
        )
    if target != UNIT:
        _note("8-bit images", target)
    return target


def _is_certain(images: Floats, given: Scale, found: Scale, target: Scale) -> bool:
    """Return whether images of the scale ``found`` cannot be of the larger scale ``target``, if that is larger."""
    if target in (BYTES, WORDS) and found == UNIT:
        return not _is_whole(images)
    return not (target == WORDS and found == BYTES)


def _is_whole(images: Floats) -> bool:
    return bool(np.array_equal(images, np.rint(images)))


def _note(images: str, target: Scale) -> None:
    warnings.warn(f"{images} were converted to the scale of the model's training images, {target}", stacklevel=4)


def _rejected(given: Scale, fitted: Scale, remedy: str) -> ArgumentError:
    return ArgumentError(f"images from {given} for a model that was trained on images from {fitted}; {remedy}")
