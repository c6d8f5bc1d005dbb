"""CIFAR-10 in its authors' binary form (Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html)."""

import re
import tarfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from numbacnn.data.dataset import Dataset
from numbacnn.errors import DataError

ARCHIVE = "cifar-10-binary.tar.gz"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
RECORD = 1 + 3 * 32 * 32  # bytes: the label, then the red, green and blue planes
MAX_BATCH_BYTES = 10_000 * RECORD


def read_cifar10(path: Path) -> tuple[Dataset, Dataset]:
    """Return the training and the test set in the archive. Raises DataError if it is damaged or incomplete."""
    batches: dict[str, NDArray[np.uint8]] = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                name = Path(member.name).name
                if member.isfile() and re.fullmatch(r"(data_batch_\d|test_batch)\.bin", name):
                    file = archive.extractfile(member)
                    batches[name] = _records(path, name, file.read(MAX_BATCH_BYTES + 1) if file else b"")
    except (OSError, EOFError, tarfile.TarError) as error:
        raise DataError(f"{path}: damaged ({error}); delete it to download it again") from None
    training = [batches[name] for name in sorted(batches) if name != "test_batch.bin"]
    if not training or "test_batch.bin" not in batches:
        raise DataError(f"{path}: holds {', '.join(batches) or 'no batches'}; needs data_batch_1.bin … test_batch.bin")
    return _dataset(np.concatenate(training)), _dataset(batches["test_batch.bin"])


def _records(path: Path, name: str, content: bytes) -> NDArray[np.uint8]:
    if not content or len(content) % RECORD or len(content) > MAX_BATCH_BYTES:
        raise DataError(f"{path}: {name} has {len(content):,} bytes, not up to 10,000 records of {RECORD:,} bytes")
    return np.frombuffer(content, np.uint8).reshape(-1, RECORD)


def _dataset(records: NDArray[np.uint8]) -> Dataset:
    images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return Dataset.from_arrays(images, records[:, 0].astype(np.int64), CLASSES)
