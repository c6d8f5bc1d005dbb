"""Model files and checkpoints: safetensors with a JSON header in the metadata; never pickle."""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from numbacnn._checks import brief
from numbacnn.data.files import replacing
from numbacnn.data.normalization import Normalization
from numbacnn.detection import RaggedBoxes, in_blocks
from numbacnn.engine.device import Device
from numbacnn.engine.graph import Graph
from numbacnn.engine.graph_format import DAMAGE, from_dict, to_dict
from numbacnn.engine.locks import PROCESS_LOCK
from numbacnn.engine.parameters import Arena, Parameters, Slot
from numbacnn.errors import ArgumentError, ModelFileError
from numbacnn.layers import Layer
from numbacnn.saving.tensors import TensorFile, phrase, wrong_type
from numbacnn.tasks import task_of

FORMAT = "numbacnn"
CHECKPOINT_FORMAT = "numbacnn-checkpoint"
VERSION = 1
METADATA = {"format", "version", "head", "digest"}
WRITTEN = ("F32",)  # the types of the tensors

OTHER_FORMATS = (
    ".onnx", ".h5", ".hdf5", ".keras", ".pt", ".pth", ".pkl", ".pickle", ".joblib", ".npy", ".npz", ".pb", ".tflite",
)  # fmt: skip

Arrays = dict[str, NDArray[Any]]


class Saveable(Protocol):
    """The attributes of a model that its file stores."""

    graph: Graph
    store: Parameters
    classes: tuple[str, ...] | None
    normalization: Normalization | None
    auxiliary_weight: float
    task: str | None
    several_inputs: bool
    several_outputs: bool


class ModelFile(NamedTuple):
    """The validated content of a model file: ``arrays`` holds every parameter and state of ``graph`` in its shape."""

    graph: Graph
    arrays: Mapping[str, NDArray[np.float32]]
    classes: tuple[str, ...] | None
    normalization: Normalization | None
    several_inputs: bool
    several_outputs: bool
    auxiliary_weight: float
    task: str | None
    frozen: frozenset[str] = frozenset()


def save_model(model: Saveable, path: str | PathLike[str], epoch: int | None = None) -> None:
    """Write a model file; docs/model-file.md describes the format. ``epoch`` is that of a training, for the record.

    Raises:
        ArgumentError: the name is that of another format.
    """
    suffix = Path(path).suffix.lower()
    if suffix in OTHER_FORMATS:
        other = "; nc.onnx.save writes ONNX" if suffix == ".onnx" else ""
        raise ArgumentError(f"{path}: save writes safetensors; use a name that ends in .safetensors{other}")
    head = {
        "graph": to_dict(model.graph),
        "classes": model.classes,
        "normalization": model.normalization and model.normalization.as_dict(),
        "lists": [model.several_inputs, model.several_outputs],
        "auxiliary_weight": model.auxiliary_weight,
        "task": model.task,
    }
    if epoch is not None:
        head["epoch"] = epoch
    with PROCESS_LOCK:
        arrays = model.store.arrays()
    _write(Path(path), FORMAT, head, arrays)


def read_model(path: str | PathLike[str], layers: Sequence[type[Layer]] = (), limits: bool = True) -> ModelFile:
    """Read and validate a model file. ``layers`` are custom layer classes that it may use.

    Raises:
        ModelFileError: the file is damaged or inconsistent, or with ``limits`` its graph is too large; the message says
            how.
    """
    file = Path(path)
    head, arrays = _read(file, FORMAT)
    try:
        graph = from_dict(head["graph"], layers, limits)
        _check_arrays(arrays, {name: shape for name, (shape, _) in {**graph.parameters(), **graph.state()}.items()})
        classes = None if head["classes"] is None else tuple(map(str, head["classes"]))
        several_inputs, several_outputs = map(bool, head["lists"])
        normalization = _normalization(head["normalization"])
        check_normalization(normalization, [shape[-1] for shape in graph.input_shapes])
        auxiliary_weight = float(head.get("auxiliary_weight", 0.3))
        if not 0 <= auxiliary_weight < math.inf:
            raise ModelFileError(f"its auxiliary weight is damaged: {auxiliary_weight}")
        task = head.get("task")
        if task is not None:
            task_of(task, graph.input_shapes[0]).check_output(graph.shapes[graph.outputs[0]])
        if classes is not None and len(classes) > max(2, *(graph.shapes[value][-1] for value in graph.outputs)):
            raise ModelFileError(f"it names {len(classes)} classes, more than it has outputs")
    except (ModelFileError, ArgumentError) as error:
        raise ModelFileError(f"{file}: {brief(error)}") from None
    except DAMAGE as error:
        raise ModelFileError(f"{file}: its metadata is damaged: {brief(repr(error))}") from None
    return ModelFile(graph, arrays, classes, normalization, several_inputs, several_outputs, auxiliary_weight, task)


def read_normalization(path: Path) -> Normalization | None:
    """Read the normalization from a model file; None if it has none."""
    try:
        head = _read_head(path)
        return None if head is None else _normalization(head["normalization"])
    except DAMAGE as error:
        raise ModelFileError(f"{path}: its metadata is damaged: {brief(repr(error))}") from None


def read_epoch(path: Path) -> int | None:
    """Read the epoch that a model file is of; None if it does not say. Raises ModelFileError if it is damaged."""
    from safetensors import SafetensorError

    try:
        head = _read_head(path)
        return None if head is None or "epoch" not in head else int(head["epoch"])
    except (SafetensorError, OSError, *DAMAGE) as error:
        raise ModelFileError(f"{path}: its metadata is damaged: {brief(repr(error))}") from None


def _read_head(path: Path) -> Any:
    """Return the head of a model file, without checking its digest; None if the file is of another kind."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata() or {}
    return json.loads(metadata["head"]) if metadata.get("format") == FORMAT else None


def save_checkpoint(path: Path, arenas: Mapping[str, Arena], state: object, keep_as: Path | None = None) -> None:
    """Write the arrays of arenas, as "arena/array", and a JSON state; ``keep_as`` as in ``replacing``."""
    arrays = {f"{part}/{name}": slot.of(arena.array) for part, arena, name, slot in _each_slot(arenas)}
    _write(path, CHECKPOINT_FORMAT, state, arrays, keep_as)


def read_checkpoint(path: Path) -> tuple[Any, Mapping[str, NDArray[np.float32]]]:
    """Read the state and the arrays of a checkpoint. Raises ModelFileError if the file is damaged."""
    return _read(path, CHECKPOINT_FORMAT)


def check_fit(path: Path, arrays: Mapping[str, NDArray[Any]], arenas: Mapping[str, Arena]) -> None:
    """Raise ModelFileError if a checkpoint's arrays do not fit these arenas."""
    expected = {f"{part}/{name}": slot.shape for part, _, name, slot in _each_slot(arenas)}
    try:
        _check_arrays(arrays, expected)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}; was it made by another model or optimizer?") from None


def restore(arrays: Mapping[str, NDArray[np.float32]], arenas: Mapping[str, Arena], device: Device) -> None:
    """Write the arrays of a checkpoint into arenas that ``check_fit`` has accepted."""
    for part, arena, name, slot in _each_slot(arenas):
        device.write(slot.of(arena.array), arrays[f"{part}/{name}"])


def _each_slot(arenas: Mapping[str, Arena]) -> Iterator[tuple[str, Arena, str, Slot]]:
    for part, arena in arenas.items():
        for name, slot in arena.slots.items():
            yield part, arena, name, slot


def digest(metadata: Mapping[str, str], arrays: Iterable[tuple[str, NDArray[Any] | RaggedBoxes]]) -> str:
    """Return the SHA-256 of a file's metadata without the digest, and of every array in the order of names."""
    sha = hashlib.sha256(json.dumps(sorted((k, v) for k, v in metadata.items() if k != "digest")).encode())
    for name, array in arrays:
        sha.update(json.dumps([name, array.dtype.str, array.shape]).encode())
        for part in in_blocks(array):
            sha.update(np.ascontiguousarray(part).data)
    return sha.hexdigest()


def check_digest(path: Path, file: TensorFile) -> None:
    """Raise ModelFileError if an open safetensors file was altered. Files from before version 0.2 have no digest."""
    metadata = file.metadata() or {}
    for key in metadata.keys() - METADATA:  # a digest under a damaged key must not count as a file without one
        raise ModelFileError(f"{path}: damaged: its metadata holds an unknown {brief(repr(key))}")
    if "digest" in metadata:
        _check_types(path, file)
        found = digest(metadata, ((name, file.get_tensor(name)) for name in sorted(file.keys())))
        if found != metadata["digest"]:
            raise ModelFileError(f"{path}: damaged: its content was altered (the digest differs)")


def _write(
    path: Path, kind: str, head: object, arrays: Mapping[str, NDArray[Any]], keep_as: Path | None = None
) -> None:
    from safetensors.numpy import save

    metadata = {"format": kind, "version": str(VERSION), "head": json.dumps(head)}
    with PROCESS_LOCK:  # no other thread trains while the arrays are read, the digest first
        saved = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        metadata["digest"] = digest(metadata, sorted(saved.items()))
        content = save(saved, metadata)
    header, arrays_bytes = _with_ordered_metadata(content)
    with replacing(path, keep_as) as file:
        file.write(header)
        file.write(arrays_bytes)


def _with_ordered_metadata(content: bytes) -> tuple[bytes, memoryview]:
    """Split a safetensors file into its header, with sorted metadata, and its arrays, so that equal files are equal.

    safetensors writes the metadata in the order of a randomly seeded hash table. The header is a length of 8 bytes and
    JSON, padded to a multiple of 8 bytes.
    """
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, memoryview(content)[end:]


def _read(path: Path, kind: str) -> tuple[Any, Arrays]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise ModelFileError(f"{path}: no such file")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            _check_version(path, metadata, kind)
            _check_types(path, file)
            check_digest(path, file)
            head = json.loads(metadata["head"])
            return head, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, *DAMAGE) as error:
        raise ModelFileError(f"{path}: not a numbacnn file, or damaged: {brief(error)}") from None


def _check_version(path: Path, metadata: Mapping[str, str], kind: str) -> None:
    if metadata.get("format") != kind:
        found = metadata.get("format")
        raise ModelFileError(f"{path}: not a {kind} file" + (f", but a {brief(repr(found))} file" if found else ""))
    version = metadata.get("version", "")
    if not version.isdecimal() or len(version) > 9:
        raise ModelFileError(f"{path}: damaged: its version {brief(repr(version))} is not a number")
    if int(version) > VERSION:
        raise ModelFileError(
            f"{path}: format version {version} is newer than this numbacnn reads ({VERSION}); upgrade numbacnn"
        )


def _check_types(path: Path, file: TensorFile) -> None:
    """Raise ModelFileError unless every tensor is one that numbacnn writes, before any is read as a NumPy array."""
    for name in file.keys():  # noqa: SIM118 (not a mapping)
        tensor = file.get_slice(name)
        if wrong_type(tensor, WRITTEN):
            raise ModelFileError(
                f'{path}: "{brief(name)}" is {phrase(tensor)}, but numbacnn writes F32: was the file changed by '
                "another program? Use the one that numbacnn wrote"
            )


def _check_arrays(arrays: Mapping[str, NDArray[Any]], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Check names, shapes and types, before memory of the size that the graph claims is allocated."""
    for name in expected.keys() ^ arrays.keys():
        raise ModelFileError(f'"{name}" {"is missing" if name in expected else "belongs to no layer"}')
    for name, array in arrays.items():
        if array.shape != expected[name] or array.dtype != np.float32:
            raise ModelFileError(f'"{name}" is {array.dtype} {array.shape}, not float32 {expected[name]}')


def check_normalization(normalization: Normalization | None, channels: Sequence[int]) -> None:
    """Raise ModelFileError unless a normalization is of the channels of the inputs."""
    parts = () if normalization is None else (normalization, *normalization.others)
    if len(parts) > 1 and len(parts) != len(channels):
        raise ModelFileError(f"its normalization is damaged: {len(parts)} inputs, but the graph has {len(channels)}")
    for part, count in zip(parts, channels, strict=False):
        if len(part.mean) != count:
            raise ModelFileError(f"its normalization is damaged: {len(part.mean)} channels, unlike its input")


def _normalization(content: Mapping[str, Any] | None) -> Normalization | None:
    try:
        return None if content is None else Normalization.from_dict(content)
    except ValueError as error:
        raise ModelFileError(str(error)) from None
