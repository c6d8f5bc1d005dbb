"""A run's record: what it was made of and on, and what came of it, so that it can be repeated and checked."""

import hashlib
import json
import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from numbacnn.data.dataset import Dataset
from numbacnn.data.files import replacing
from numbacnn.engine.locks import get_num_threads
from numbacnn.kernels.target import host_target
from numbacnn.saving.format import digest

PACKAGES = ("numbacnn", "numba", "llvmlite", "numpy", "safetensors", "pillow")


def versions() -> dict[str, str]:
    """Of Python and the packages that a run depends on, and the platform."""
    found = {name: version(name) for name in PACKAGES}
    return {**found, "python": platform.python_version(), "platform": platform.platform()}


def processor() -> dict[str, Any]:
    """What kernels are compiled for: the processor, its features, and what of them the kernels use."""
    import llvmlite.binding as llvm

    target = host_target()
    return {
        "name": llvm.get_host_cpu_name(),
        "instruction_set": target.instruction_set,
        "vector_bits": 32 * target.lanes,
        "vector_registers": target.registers,
        "fma": target.fma,
        "features": sorted(name for name, present in llvm.get_host_cpu_features().items() if present),
    }


def conditions(command: str, settings: Mapping[str, Any], train: Dataset, test: Dataset) -> dict[str, Any]:
    """All that decides what a run computes, and what it ran on."""
    return {
        "command": command,
        "seed": settings["seed"],
        "threads": get_num_threads(),
        "settings": dict(settings),
        "data": {"train": data_digest(train), "test": data_digest(test)},
        "versions": versions(),
        "processor": processor(),
    }


def data_digest(dataset: Dataset) -> str:
    """SHA-256 of images, labels and names of classes, in whichever files they lie."""
    return digest({"classes": json.dumps(dataset.classes)}, [("images", dataset.images), ("labels", dataset.labels)])


def file_digests(files: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of each of the files that are there, by its name."""
    found = {}
    for path in files:
        if path.is_file():
            with path.open("rb") as file:
                found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Writes a record as TOML."""
    import tomli_w

    with replacing(path) as file:
        file.write(tomli_w.dumps(record).encode())
