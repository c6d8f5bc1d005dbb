"""Data sets known by name, and ``load``, which loads them and folders."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from numbacnn._checks import choose, path_of
from numbacnn._checks.names import checks_arguments, checks_call
from numbacnn.data import cifar
from numbacnn.data.dataset import Dataset
from numbacnn.data.folder import of_training, read_folder
from numbacnn.data.idx_folder import load_idx
from numbacnn.data.labels import CLASSES, TAGS, VALUES
from numbacnn.data.reading import ReadOptions, Splits
from numbacnn.data.remote import NamedSet, Progress, State, fetch, file_states
from numbacnn.data.scenes import SIZE, make_scenes
from numbacnn.errors import ArgumentError, DataError

_DIGITS = NamedSet(
    name="digits",
    checksums={"digits.npz": "c8a123cba4b7834eebfb5ffb6c5f0f6b"},
    mirrors=(),
    classes=tuple("0123456789"),
    strokes=True,
)
_MNIST = NamedSet(
    name="mnist",
    checksums={
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    },
    sha256={
        "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    },
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    classes=tuple("0123456789"),
    strokes=True,
)
_FASHION_MNIST = NamedSet(
    name="fashion-mnist",
    checksums={
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
    },
    sha256={
        "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    },
    mirrors=(
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",  # without https
    ),
    classes=(
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
)
_CIFAR10 = NamedSet(
    name="cifar10",
    checksums={cifar.ARCHIVE: "c32a1d4ab5d03f1284b67883e8d87530"},
    sha256={cifar.ARCHIVE: "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"},
    mirrors=("https://www.cs.toronto.edu/~kriz/",),
    classes=cifar.CLASSES,
)
_SETS = {named.name: named for named in (_DIGITS, _MNIST, _FASHION_MNIST, _CIFAR10)}

NAMES = tuple(_SETS)
"""Names that ``load``, ``download`` and ``verify`` know."""

_TEST_FRACTION = 0.2
TRAINING_SCENES, TEST_SCENES = 8000, 1000


@checks_arguments
def load(
    name_or_path: str | os.PathLike[str] | NamedSet,
    *,
    labels: str | None = None,
    size: tuple[int, int] | None = None,
    scenes: int | None = None,
    skip_damaged: bool = False,
    ignore_index: int | None = None,
    fit: str = "stretch",
    image_cache: str = "auto",
    cache: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> tuple[Dataset, Dataset]:
    """Load the training and the test set of a data set; arguments and errors are those of ``load_splits``.

    Raises DataError if a folder has no training set.
    """
    options = {"labels": labels, "size": size, "scenes": scenes, "skip_damaged": skip_damaged}
    options |= {"ignore_index": ignore_index, "fit": fit, "image_cache": image_cache}
    splits = load_splits(name_or_path, **options, cache=cache, progress=progress)  # type: ignore[arg-type]
    train, test = of_training(splits, str(name_or_path)), splits.test
    assert test is not None
    if splits.validation is not None:
        note = f"a validation set of {len(splits.validation):,} images is left out; load_splits returns it"
        train = replace(train, notes=(*train.notes, note))
    return train, test


@checks_call
def load_splits(
    name_or_path: str | os.PathLike[str] | NamedSet,
    *,
    labels: str | None = None,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    scenes: int | None = None,
    skip_damaged: bool = False,
    ignore_index: int | None = None,
    fit: str = "stretch",
    white: float | None = None,
    image_cache: str = "auto",
    cache: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Splits:
    """Load the training, validation and test set of a data set. The first two are None if it has no such set.

    With ``labels="masks"`` or ``"boxes"``, ``make_scenes`` makes scenes of a named set's images: ``scenes`` of its
    training images, and a thousand of its test images.

    Args:
        name_or_path: a name from ``NAMES``, or a folder that ``read_folder`` can read (write ``./mnist`` for a folder
            with the name of a set). If a folder has no test set, its validation set becomes it, or else a fifth of each
            class, and ``notes`` say so.
        labels: "classes", "masks", "boxes", "tags" or "values"; by default classes, or what a folder holds.
        size: height and width of scenes, by default 64 and 64, or of image files, by default those of the first.
        channels: 1 for gray or 3 for RGB, of image files; by default 1 if all are gray.
        scenes: number of training scenes, by default 8,000.
        skip_damaged: whether image files that cannot be decoded are left out, with a note.
        ignore_index: the value in a folder's masks that does not count, by default 255 next to class numbers.
        fit: how image files of another aspect ratio get the size: "stretch", "crop" or "letterbox".
        white: the number that is white in gray image files of more than 8 bits, by default that of all together.
        image_cache: where decoded image files are kept: "memory", "disk", or "auto", which is the disk if they would
            take more than a third of the available memory.
        cache: folder for downloads, by default in the user's cache folder.
        progress: called with file name, bytes received and total (or None) during downloads.

    Raises:
        ArgumentError: the name is unknown, or ``size`` or ``scenes`` does not apply.
        DataError: the folder or its files cannot be used, or a download failed.
    """
    source = _resolve(name_or_path)
    if scenes is not None and (labels in (None, CLASSES) or isinstance(source, Path)):
        raise ArgumentError("scenes are made only of a named data set, with labels that are masks or boxes")
    if isinstance(source, Path) and not (source / cifar.ARCHIVE).is_file():
        options = ReadOptions(size, channels, skip_damaged, white, ignore_index, fit, image_cache)
        return _with_test_set(source, read_folder(source, None, labels, options))
    folder = source if isinstance(source, Path) else download(source, cache=cache, progress=progress)
    source = _CIFAR10 if isinstance(source, Path) else source
    if source is _DIGITS:
        train, test = _load_digits(folder / "digits.npz")
    elif cifar.ARCHIVE in source.checksums:
        train, test = cifar.read_cifar10(folder / cifar.ARCHIVE)
    else:
        splits = _with_test_set(folder, load_idx(folder, source.classes, source.checksums))
        assert splits.train is not None
        assert splits.test is not None
        train, test = splits.train, splits.test
    train, test = (replace(split, strokes=source.strokes) for split in (train, test))
    if labels in (TAGS, VALUES):
        raise ArgumentError(
            f"{source.name} has classes, not {labels}; pass a folder of images with a CSV file of {labels}"
        )
    if labels in (None, CLASSES):
        if size is not None and size != train.images.shape[1:3]:
            raise ArgumentError(f"the images of {source.name} have a fixed size; leave the size out")
        return Splits(train, None, test)
    height, width = size or (SIZE, SIZE)
    if height != width:
        raise ArgumentError(f"scenes are square, not {height}×{width}")
    counts = (TRAINING_SCENES if scenes is None else scenes, TEST_SCENES)
    train, test = (
        make_scenes(split, count, labels, size=height, seed=seed)
        for seed, (split, count) in enumerate(zip((train, test), counts, strict=True))
    )
    return Splits(train, None, test)


@checks_call
def download(
    name: str | NamedSet, *, cache: str | os.PathLike[str] | None = None, progress: Progress | None = None
) -> Path:
    """Download the missing or damaged files of a set; returns their folder. Arguments and errors as in ``load``."""
    named = _named(name)
    folder = _folder(named, cache)
    fetch(named, folder, progress)
    return folder


@checks_call
def verify(name: str | NamedSet, *, cache: str | os.PathLike[str] | None = None) -> list[tuple[str, State]]:
    """Compare the files of a set with their checksums; returns (file, "ok" | "missing" | "damaged") for each.

    Raises:
        ArgumentError: the name is unknown.
    """
    named = _named(name)
    return file_states(named, _folder(named, cache))


def _resolve(source: str | os.PathLike[str] | NamedSet) -> NamedSet | Path:
    if isinstance(source, NamedSet) or (isinstance(source, str) and not _is_folder(source)):
        return _named(source)
    return path_of(source, "data")


def _is_folder(source: str) -> bool:
    return source not in _SETS and ("/" in source or os.sep in source or path_of(source, "data").is_dir())


def _named(name: str | NamedSet) -> NamedSet:
    if isinstance(name, NamedSet):
        return name
    try:
        return choose("data set", name, _SETS)
    except ArgumentError as error:
        raise ArgumentError(f"{error}; or pass a folder") from None


def _folder(named: NamedSet, cache: str | os.PathLike[str] | None) -> Path:
    if named is _DIGITS:
        return Path(__file__).parent
    if cache is None:
        from platformdirs import user_cache_path

        try:
            cache = user_cache_path("numbacnn", appauthor=False) / "data"
        except RuntimeError as error:
            raise DataError(f"{named.name}: there is no cache folder ({error}); pass a folder with its files") from None
    return Path(cache) / named.name


def _with_test_set(folder: Path, splits: Splits) -> Splits:
    """Use the validation set as test set if there is none, or split one off."""
    train, validation, test = splits
    if test is not None:
        return splits
    if validation is not None:
        note = f"{folder} has no test set; its validation set of {len(validation):,} images is used"
        return Splits(train, None, replace(validation, notes=(*validation.notes, note)))
    assert train is not None
    notes = train.notes
    train, test = train.split(_TEST_FRACTION)
    note = f"{folder} has no test set; {len(test)} of its {len(train) + len(test)} images were split off for it"
    return Splits(replace(train, notes=notes), None, replace(test, notes=(note,)))


def _load_digits(path: Path) -> tuple[Dataset, Dataset]:
    with np.load(path) as archive:
        images, labels, test = archive["images"], archive["labels"], archive["test"]
    whole = Dataset.from_arrays(_like_mnist(images), labels, _DIGITS.classes)
    return whole.subset(np.delete(np.arange(len(whole)), test)), whole.subset(test)


def _like_mnist(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Convert (N, 8, 8) images from 0 to 16 to MNIST's: (N, 28, 28) from 0 to 255, with a border of 4 pixels."""
    from PIL.Image import Resampling, fromarray

    bright = np.rint(images * (255 / 16)).astype(np.uint8)
    grown = [np.asarray(fromarray(image).resize((20, 20), Resampling.BICUBIC)) for image in bright]
    return np.pad(grown, ((0, 0), (4, 4), (4, 4)))
