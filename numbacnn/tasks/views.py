"""Test-time augmentation: predictions averaged over views of an image, such as its mirror image and small shifts."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from numbacnn._checks import shown
from numbacnn.data.chain import Augmentation, Compose, get_augmentation
from numbacnn.data.dataset import Images
from numbacnn.data.transforms import Crop, HorizontalFlip, Transform, VerticalFlip
from numbacnn.engine.device import Device
from numbacnn.errors import ArgumentError

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
MAX_VIEWS = 200


class Views:
    """Every image that ``hflip``, ``vflip`` and ``crop`` can make of an image.

    ``crop=1`` gives nine views, the shifts by −1, 0 and 1 pixels in either direction, and a flip doubles the
    number. All views count the same: the probability of a flip is ignored. Pixels from outside the image are 0.

    Raises:
        ArgumentError: another transform, one that is repeated, a fill other than 0, or more than 200 views.
    """

    def __init__(self, tta: Augmentation) -> None:
        chain = _parse(tta)
        transforms = () if chain is None else chain.transforms
        for transform in transforms:
            if not isinstance(transform, Crop | HorizontalFlip | VerticalFlip):
                raise ArgumentError(f"tta: {transform} has no fixed set of views; use crop, hflip and vflip")
        by_kind = {type(transform): transform for transform in transforms}
        if len(by_kind) < len(transforms):
            raise ArgumentError(f"tta: {chain} repeats a transform; give each once")
        crop = by_kind.get(Crop)
        self._padding = crop.padding if isinstance(crop, Crop) else 0
        if chain is not None and chain.fill:
            raise ArgumentError(f"tta: {chain}; pixels from outside the image are 0, so leave fill out")
        self._row_steps = (1, -1) if VerticalFlip in by_kind else (1,)
        self._column_steps = (1, -1) if HorizontalFlip in by_kind else (1,)
        if len(self) > MAX_VIEWS:
            raise ArgumentError(f"tta: {chain} makes {len(self):,} views of each image, more than {MAX_VIEWS}")

    def __len__(self) -> int:
        """Return the number of views of an image."""
        return (2 * self._padding + 1) ** 2 * len(self._row_steps) * len(self._column_steps)

    def of(self, images: Images) -> Iterator[Images]:
        """Yield views of raw images (n, H, W, C), contiguous."""
        height, width = images.shape[1:3]
        border = (self._padding, self._padding)
        padded = np.pad(images, ((0, 0), border, border, (0, 0)))
        offsets = range(2 * self._padding + 1)
        for y, x, rows, columns in product(offsets, offsets, self._row_steps, self._column_steps):
            yield np.ascontiguousarray(padded[:, y : y + height, x : x + width][:, ::rows, ::columns])


def _parse(tta: object) -> Compose | None:
    if not isinstance(tta, str | Transform | Compose | list | tuple):
        raise ArgumentError(f"tta={shown(tta)}: pass text such as 'crop=1, hflip', or transforms")
    try:
        return get_augmentation(tta)
    except ArgumentError as error:
        raise ArgumentError(f"tta={shown(tta)}: {str(error).removeprefix('augment: ')}") from None


class Averaging:
    """Averages the predictions of a network over views.

    ``activations`` are the ops that make predictions of the outputs: probabilities are averaged where logits are the
    output, and the result is the logit of the mean, so that losses and metrics work as on any output. An activation of
    None averages the outputs themselves.
    """

    def __init__(self, views: Views, activations: Sequence[str | None], device: Device) -> None:
        self._views, self._activations, self._device = views, activations, device

    def __call__(self, images: Images, outputs: Sequence[Float32], forward: Callable[[Images], object]) -> None:
        """Call ``forward`` with each view of raw images, which fills ``outputs``, and leave the means there."""
        sums: list[Float64] = []
        for view in self._views.of(images):
            forward(view)
            with np.errstate(invalid="ignore"):  # infinite logits, of a training that diverged
                terms = [
                    _terms(self._device.host(output).astype(np.float64), activation)
                    for output, activation in zip(outputs, self._activations, strict=True)
                ]
                sums = [*map(_added, sums, terms, self._activations)] if sums else terms
        for output, total, activation in zip(outputs, sums, self._activations, strict=True):
            self._device.upload(output, self._mean(total, activation).astype(np.float32))

    def _mean(self, total: Float64, activation: str | None) -> Float64:
        if activation is None:
            return total / len(self._views)
        if activation == "sigmoid":
            logit: Float64 = total[0] - total[1]  # log p − log(1 − p)
            return logit
        return total - math.log(len(self._views))


def _added(total: Float64, terms: Float64, activation: str | None) -> Float64:
    if activation is None:
        return total + terms
    log_sum: Float64 = np.logaddexp(total, terms)
    return log_sum


def _terms(x: Float64, activation: str | None) -> Float64:
    """Return what is summed over views: logarithms of probabilities, which do not underflow, or outputs themselves.

    For a sigmoid, they are those of p and of 1 − p.
    """
    if activation == "sigmoid":
        return -np.logaddexp(0, np.stack([-x, x]))
    if activation == "softmax":
        log_sums: Float64 = np.logaddexp.reduce(x, axis=-1, keepdims=True)
        return x - log_sums
    return x
