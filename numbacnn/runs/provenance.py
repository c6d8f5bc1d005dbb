"""Provenance of a run: its command, settings, data, versions, processor and results, to repeat and to check it."""

import hashlib
import json
import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from numbacnn._checks import brief
from numbacnn._checks.version import __version__
from numbacnn.data.dataset import Dataset
from numbacnn.data.files import write_file
from numbacnn.data.text import readable
from numbacnn.engine.locks import get_num_threads
from numbacnn.kernels.target import host_target
from numbacnn.saving.format import digest

MAX_COMMAND = 2000  # characters; the settings are complete
PACKAGES = ("numba", "llvmlite", "numpy", "safetensors", "pillow")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on, and the platform."""
    found = {"numbacnn": __version__, **{name: version(name) for name in PACKAGES}}
    return {**found, "python": platform.python_version(), "platform": platform.platform()}


def processor() -> dict[str, Any]:
    """Return the processor's name and features, and which of them the kernels are compiled for."""
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


def conditions(command: str, settings: Mapping[str, Any], data: Mapping[str, Dataset | None]) -> dict[str, Any]:
    """Return everything that determines what a run computes, and the machine that it runs on.

    data: the training, validation and test set by name.
    """
    return {
        "command": brief(readable(command), MAX_COMMAND),
        "seed": settings["seed"],
        "threads": get_num_threads(),
        "settings": dict(settings),
        "data": {name: data_digest(split) for name, split in data.items() if split is not None},
        "versions": versions(),
        "processor": processor(),
    }


def changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return a phrase for each version and fact of the processor that differs between two conditions.

    Raises one of ``graph_format.DAMAGE`` if ``then``, which is read from a file, is damaged.
    """
    return [
        f"{part}: {name} was {brief(then[part][name], 60)}, is {brief(value, 60)}"
        for part in ("versions", "processor")
        for name, value in now[part].items()
        if name in then.get(part, {}) and then[part][name] != value
    ]


def data_digest(dataset: Dataset) -> str:
    """Return the SHA-256 of images, labels and class names, which does not depend on the files that held them."""
    return digest({"classes": json.dumps(dataset.classes)}, [("images", dataset.images), ("labels", dataset.labels)])


def file_digests(files: Iterable[Path]) -> dict[str, str]:
    """Map the name of each file that exists to its SHA-256."""
    found = {}
    for path in files:
        if path.is_file():
            with path.open("rb") as file:
                found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def write_provenance(path: Path, provenance: Mapping[str, Any]) -> None:
    """Write ``provenance`` as TOML."""
    import tomli_w

    write_file(path, tomli_w.dumps(provenance).encode())
