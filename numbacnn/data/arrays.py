"""Arrays of what people have: NumPy arrays, lists, PyTorch's tensors, and iterables of batches of these."""

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numbacnn._checks import choose, format_shape, shown
from numbacnn.errors import ArgumentError

_CHANNELS = (1, 3, 4)


def as_array(value: object, what: str) -> NDArray[Any]:
    """Return a value as a NumPy array. ``what`` is its name in errors.

    A tensor of PyTorch may require gradients or be on a GPU.

    Raises:
        ArgumentError: the value is not an array, such as a list of images of different sizes.
    """
    if isinstance(value, Mapping):
        raise ArgumentError(f"{what} are a {type(value).__name__}; pass one array")
    if value is None or isinstance(value, str | PathLike):
        read = "" if value is None else "; nc.data.read_image reads a file"
        raise ArgumentError(f"{what}={shown(value)}: pass an array{read}")
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
            raise ArgumentError(f"{what} have {len(shapes)} shapes, {first}, {second} …; make them equal") from None
        raise ArgumentError(f"{what}: {error}") from None


def as_features(array: NDArray[Any]) -> NDArray[Any]:
    """Return rows of integers or booleans, which are not 8-bit pixels, as float32; other arrays unchanged."""
    return array.astype(np.float32) if array.dtype.kind in "biu" and array.dtype != np.uint8 else array


def _are_arrays(value: object) -> TypeGuard[Sequence[ArrayLike]]:
    return isinstance(value, Sequence) and all(hasattr(part, "shape") for part in value)


def by_input(given: object, names: Sequence[str]) -> list[NDArray[Any]]:
    """Return an array for each input of a model: of one, or of a tuple or list in order, or a mapping by name.

    Raises:
        ArgumentError: an input is missing or unknown, or they differ in length.
    """
    listed = ", ".join(names)
    if isinstance(given, Mapping):
        chosen = {choose("input", name, dict(zip(names, names, strict=True))): part for name, part in given.items()}
        if missing := [name for name in names if name not in chosen]:
            raise ArgumentError(f"there is no input {missing[0]!r}; the model has {listed}")
        given = [chosen[name] for name in names]
    elif len(names) == 1:
        return [as_array(given, "images")]
    elif not isinstance(given, tuple | list) or len(given) != len(names):
        found = f"{len(given)} arrays" if isinstance(given, tuple | list) else type(given).__name__
        raise ArgumentError(f"{found} for a model with {len(names)} inputs; pass a tuple or a dict of {listed}")
    arrays = [as_array(part, name) for name, part in zip(names, given, strict=True)]
    if len({len(array) if array.ndim else 0 for array in arrays}) > 1:
        counts = ", ".join(
            f"{len(array) if array.ndim else 0} of {name}" for name, array in zip(names, arrays, strict=True)
        )
        raise ArgumentError(f"the inputs differ in length: {counts}")
    return arrays


def collected(batches: Iterable[Any], names: Sequence[str] = ("images",)) -> tuple[Any, NDArray[Any]]:
    """Return the images and labels of all batches (images, labels), such as those of a PyTorch DataLoader.

    For a model with several inputs, ``names``, the images are a tuple or a mapping in each batch, and a tuple in the
    result. PyTorch's images N×C×H×W become N×H×W×C.

    Raises:
        ArgumentError: there is no batch, or one is not a pair.
    """
    images, labels = list[list[NDArray[Any]]](), list[NDArray[Any]]()
    for number, batch in enumerate(batches):
        if not isinstance(batch, tuple | list) or len(batch) < 2:
            raise ArgumentError(f"batch {number} is {type(batch).__name__}; pass pairs (images, labels)")
        # Copies, since the next batch may be in the same buffers, as those of numbacnn's DataLoader are.
        images.append([np.array(part) for part in by_input(_channels_last(batch[0]), names)])
        labels.append(np.array(as_array(batch[1], "labels")))
        _check_batch(number, images[-1][0], labels[-1])
    if not images:
        raise ArgumentError("there are no batches: an iterator can be read only once; pass a list, or a DataLoader")
    try:
        parts = tuple(map(np.concatenate, zip(*images, strict=True)))
        return parts if len(names) > 1 else parts[0], np.concatenate(labels)
    except ValueError as error:
        raise ArgumentError(f"batches do not fit together: {error}") from None


def _check_batch(number: int, images: NDArray[Any], labels: NDArray[Any]) -> None:
    """Raise ArgumentError if a batch is a single image with its label, or has unequal numbers of them."""
    if not images.ndim or not labels.ndim:
        raise ArgumentError(
            f"batch {number} is a single image of shape {images.shape} and its label; pass arrays, "
            "fit(np.stack(images), labels), or pairs of batches, such as (images[:8], labels[:8])"
        )
    if len(images) != len(labels):
        raise ArgumentError(
            f"batch {number} has {len(images)} images, of shape {images.shape}, but {len(labels)} labels; "
            "pass as many, a batch of one as (image[np.newaxis], [label])"
        )


def _channels_last(images: object) -> object:
    """Return PyTorch's images N×C×H×W as N×H×W×C, also those in a tuple or mapping; anything else unchanged."""
    if isinstance(images, Mapping):
        return {name: _channels_last(part) for name, part in images.items()}
    if isinstance(images, tuple | list):
        return [_channels_last(part) for part in images]
    if not hasattr(images, "detach"):
        return images
    array = as_array(images, "images")
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 and array.shape[1] in _CHANNELS else array
