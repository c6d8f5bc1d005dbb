"""Arrays of what people have: NumPy arrays, lists, PyTorch's tensors, and iterables of batches of these."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numbacnn._checks import format_shape
from numbacnn.errors import ArgumentError

_CHANNELS = (1, 3, 4)


def as_array(value: Any, what: str) -> NDArray[Any]:
    """Return a value as a NumPy array. ``what`` is its name in errors.

    A tensor of PyTorch may require gradients or be on a GPU.

    Raises:
        ArgumentError: the value is not an array, such as a list of images of different sizes.
    """
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    elif isinstance(value, list | tuple) and any(hasattr(part, "detach") for part in value):
        value = [as_array(part, what) for part in value]
    try:
        return np.asarray(value)
    except (TypeError, ValueError) as error:
        shapes = list(dict.fromkeys(np.shape(part) for part in value)) if _are_arrays(value) else []
        if len(shapes) > 1:
            first, second = map(format_shape, shapes[:2])
            raise ArgumentError(f"{what} have {len(shapes)} shapes, {first}, {second} …; give them one shape") from None
        raise ArgumentError(f"{what}: {error}") from None


def _are_arrays(value: Any) -> bool:
    return isinstance(value, Sequence) and all(hasattr(part, "shape") for part in value)


def collected(batches: Iterable[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the images and labels of all batches (images, labels), such as those of a PyTorch DataLoader.

    PyTorch's images N×C×H×W become N×H×W×C.

    Raises:
        ArgumentError: there is no batch, or one is not a pair.
    """
    images, labels = [], []
    for number, batch in enumerate(batches):
        if not isinstance(batch, tuple | list) or len(batch) < 2:
            raise ArgumentError(f"batch {number} is {type(batch).__name__}; give pairs (images, labels)")
        part = as_array(batch[0], "images")
        if hasattr(batch[0], "detach") and part.ndim == 4 and part.shape[1] in _CHANNELS:
            part = part.transpose(0, 2, 3, 1)
        images.append(part)
        labels.append(as_array(batch[1], "labels"))
    if not images:
        raise ArgumentError("there are no batches: an iterator can be read only once; give a list, or a DataLoader")
    try:
        return np.concatenate(images), np.concatenate(labels)
    except ValueError as error:
        raise ArgumentError(f"batches do not fit together: {error}") from None
