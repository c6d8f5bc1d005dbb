"""Batches of a data set in a reproducible order; a background thread prefetches those that take long to copy."""

import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any, NamedTuple, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numbacnn._checks import flag, whole
from numbacnn._checks.names import AnswersAttributes, ChecksArguments
from numbacnn.data.dataset import Dataset, Images
from numbacnn.data.store import is_on_disk
from numbacnn.detection import RaggedBoxes
from numbacnn.errors import ArgumentError

INLINE_BYTES = 1 << 18  # a batch this small is copied in less time than a thread needs to wake and to get the GIL
_Buffer: TypeAlias = tuple[tuple[Images, ...], NDArray[Any] | None]  # of the inputs, and of labels in an array


class _Pair(NamedTuple):
    images: Images
    labels: NDArray[Any]


class Batch(_Pair):
    """A pair of images (n, H, W, C) and their labels in the form of the data set.

    Attributes:
        indices: those of the images in the data set, (n,) int64.
        others: the further inputs, as in ``Dataset``.
    """

    indices: NDArray[np.int64]
    others: tuple[Images, ...]

    def __new__(
        cls, images: Images, labels: NDArray[Any], indices: NDArray[np.int64], others: tuple[Images, ...] = ()
    ) -> Self:
        """Make a pair with more attributes."""
        batch = super().__new__(cls, images, labels)
        batch.indices, batch.others = indices, others
        return batch


class DataLoader(ChecksArguments, AnswersAttributes):
    """Iterates over a data set in batches, in an order that depends only on the seed and the epoch.

    Args:
        dataset: the data set, or (images, labels).
        batch_size: images per batch; the last one of an epoch may be smaller.
        seed: from 0 to 2**64 − 1.
        shuffle: draw a new order for each epoch, instead of the data set's own.
        drop_last: omit a smaller last batch.
        prefetch: number of batches that a background thread keeps ready, besides the one in use and the one being
            gathered. Batches of at most 256 KiB, from arrays in memory, are gathered when they are requested.

    Raises:
        ArgumentError: a number is out of range, or there is no batch.
    """

    def __init__(
        self,
        dataset: Dataset | tuple[ArrayLike, Any],
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool = False,
        prefetch: int = 2,
    ) -> None:
        self.dataset = Dataset.of(dataset)
        if batch_size < 1 or prefetch < 0 or not 0 <= seed < 1 << 64:
            raise ArgumentError(
                f"DataLoader: batch_size {batch_size}, prefetch {prefetch}, seed {seed}; "
                "pass a batch_size of at least 1, a prefetch of at least 0 and a seed from 0 to 2**64 - 1"
            )
        self.drop_last = flag(drop_last, "drop_last")
        if self.drop_last and batch_size > len(self.dataset):
            raise ArgumentError(
                f"DataLoader: batch_size {batch_size} with drop_last leaves no batch of {len(self.dataset)} images; "
                "choose a smaller batch_size or keep the last batch"
            )
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.prefetch = prefetch
        self.rows: Callable[[int], slice] | None = None  # of a batch of n images, those that are read
        self._next_epoch = 0

    def __len__(self) -> int:
        """Batches per epoch."""
        whole, rest = divmod(len(self.dataset), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[Batch]:
        """Iterate over the batches of the next epoch: of epoch 0 the first time."""
        self._next_epoch += 1
        return self.epoch(self._next_epoch - 1)

    def size(self, step: int) -> int:
        """Return the number of images in a batch of an epoch; batches are counted from 0."""
        return min(self.batch_size, len(self.dataset) - step * self.batch_size)

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return the indices of the data set, (N,) int64, in the order of an epoch."""
        if not self.shuffle:
            return np.arange(len(self.dataset), dtype=np.int64)  # else int32 with NumPy 1 on Windows
        bits = np.random.Philox(key=np.array([self.seed, epoch], dtype=np.uint64))
        return np.random.Generator(bits).permutation(len(self.dataset)).astype(np.int64, copy=False)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Iterate over the batches of an epoch, from batch ``start`` on.

        The arrays of a batch are valid until the next one is requested: they are in a ring of buffers, which is
        allocated when the iteration starts. Closing the iterator stops its thread.

        Raises:
            ArgumentError: ``epoch`` is negative, or ``start`` not from 0 to the number of batches.
        """
        epoch, start = whole(epoch, "epoch", 0), whole(start, "start", 0)
        if start > len(self):
            raise ArgumentError(f"start={start}: an epoch has {len(self)} batches; pass a start from 0 to {len(self)}")
        order = self.order(epoch)
        cuts = [order[n * self.batch_size :][: self.batch_size] for n in range(start, len(self))]
        iterate = self._iterate if self._is_inline else self._prefetch
        return iterate(cuts if self.rows is None else [cut[self.rows(len(cut))] for cut in cuts])

    @property
    def _is_inline(self) -> bool:
        """Whether batches are gathered when they are requested, not ahead by a thread."""
        parts = self.dataset.inputs
        size = self.batch_size * sum(part[:1].nbytes for part in parts)
        return size <= INLINE_BYTES and not any(map(is_on_disk, parts))

    def _iterate(self, cuts: list[NDArray[np.int64]]) -> Iterator[Batch]:
        buffer = self._buffer()
        for indices in cuts:
            yield _gather(self.dataset, indices, buffer)

    def _prefetch(self, cuts: list[NDArray[np.int64]]) -> Iterator[Batch]:
        free: SimpleQueue[_Buffer | None] = SimpleQueue()
        ready: SimpleQueue[tuple[Batch, _Buffer] | BaseException] = SimpleQueue()
        stop = threading.Event()
        for _ in range(self.prefetch + 2):
            free.put(self._buffer())
        thread = threading.Thread(target=_gather_ahead, args=(self.dataset, cuts, free, ready, stop), daemon=True)
        try:
            thread.start()  # an interrupt while it waits for the start must end the thread, too
            for _ in cuts:
                item = ready.get()
                if isinstance(item, BaseException):
                    raise item
                batch, buffer = item
                yield batch
                free.put(buffer)
        finally:
            stop.set()
            free.put(None)  # wakes the thread if it waits for a buffer
            if thread.is_alive():  # else it has not begun, and will find that it is to stop
                thread.join()

    def _buffer(self) -> _Buffer:
        size = min(self.batch_size, len(self.dataset))
        labels = self.dataset.labels
        inputs = tuple(np.empty((size, *part.shape[1:]), part.dtype) for part in self.dataset.inputs)
        return inputs, None if isinstance(labels, RaggedBoxes) else np.empty((size, *labels.shape[1:]), labels.dtype)


def _gather_ahead(
    dataset: Dataset,
    cuts: list[NDArray[np.int64]],
    free: SimpleQueue[_Buffer | None],
    ready: SimpleQueue[tuple[Batch, _Buffer] | BaseException],
    stop: threading.Event,
) -> None:
    """Gather each cut into a free buffer, and pass an exception on to the consumer."""
    try:
        for indices in cuts:
            buffer = free.get()
            if buffer is None or stop.is_set():
                return
            ready.put((_gather(dataset, indices, buffer), buffer))
    except BaseException as error:
        ready.put(error)


def _gather(dataset: Dataset, indices: NDArray[np.int64], buffer: _Buffer) -> Batch:
    """Return a batch of a data set, in the arrays of a buffer."""
    images, *others = (part[: len(indices)] for part in buffer[0])
    for source, target in zip(dataset.inputs, (images, *others), strict=True):
        _take(source, indices, target)
    if buffer[1] is None:
        labels = np.asarray(dataset.labels[indices])  # padded to the most boxes of an image in the batch
    else:
        labels = _take(np.asarray(dataset.labels), indices, buffer[1][: len(indices)])
    return Batch(images, labels, indices, tuple(others))


def _take(source: NDArray[Any], indices: NDArray[np.int64], target: NDArray[Any]) -> NDArray[Any]:
    """Copy rows into a buffer: mode="clip" lets NumPy write directly into it; "raise" would make a copy."""
    return np.take(source, indices, axis=0, out=target, mode="clip")
