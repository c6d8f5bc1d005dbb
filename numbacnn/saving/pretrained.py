"""Weights by name from a safetensors file: a PyTorch state dict, whose layouts are permuted, or a model file.

Tensors are read a block of rows at a time into the model's memory, so that the file is never in memory as a whole.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from math import prod
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from numbacnn._checks import brief, listed
from numbacnn.engine.graph import Graph
from numbacnn.engine.graph_format import DAMAGE
from numbacnn.engine.locks import PROCESS_LOCK
from numbacnn.engine.parameters import Parameters
from numbacnn.errors import ModelFileError, NumbacnnError
from numbacnn.geometry import Shape
from numbacnn.saving.format import CHECKPOINT_FORMAT, FORMAT, check_digest
from numbacnn.saving.tensors import TensorFile, TensorSlice, phrase, wrong_type

CONVOLUTIONS = ("conv2d", "depthwise_conv2d", "conv2d_transpose")
NUMBERS = ("F32", "F16", "F64")  # the types of tensors that are read
COUNTERS = "*num_batches_tracked"  # batch counts of PyTorch's batch normalization, which nothing here uses
MAX_LISTED = 5  # names in an error message
BLOCK_FLOATS = 1 << 21  # numbers read at once
MIN_ROWS = 16  # rows read at once even if they are more: they become neighbors, which fill whole cache lines


class LoadedWeights(NamedTuple):
    """Names of the tensors that were loaded, are missing in the file, belong to no layer, or have another shape."""

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[str, ...]


class TensorLayout(NamedTuple):
    """The layout of a tensor in the file: its ``shape``, reshaped to ``unfolded``, whose axes we store in ``order``."""

    shape: Shape
    unfolded: Shape
    order: tuple[int, ...]


def load_weights(
    graph: Graph, store: Parameters, path: str | PathLike[str], strict: bool = True, ignore: Sequence[str] = ()
) -> LoadedWeights:
    """Write the file's tensors into the arrays of the same names; ``Model.load_weights`` documents the arguments."""
    patterns = (COUNTERS, *listed(ignore, "ignore", str))
    with _opened(Path(path)) as file:
        ours = _format(file, path) == FORMAT
        if ours:
            check_digest(Path(path), file)
        layouts = _layouts(graph, ours)
        found = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        report, wrong = _compare(layouts, found, patterns)
        if not strict and not report.loaded:
            wrong.insert(0, "none of its tensors has the name, shape and type of a parameter")
        if wrong and (strict or not report.loaded):
            raise ModelFileError(f"{path}: {'; '.join(wrong)}")
        if len(report.loaded) == len(layouts):
            store.skip_initialization()
        for name in report.loaded:
            _copy(store, name, found[name], layouts[name])
    return report


def state_dict_shapes(graph: Graph) -> dict[str, Shape]:
    """Return the shapes, by name, of the tensors of a PyTorch state dict that fits the graph."""
    return {name: layout.shape for name, layout in _layouts(graph, ours=False).items()}


def state_dict(graph: Graph, store: Parameters) -> dict[str, NDArray[np.float32]]:
    """Return copies of parameters and state in the layouts of a PyTorch state dict, as ``load_weights`` reads them.

    They are copied between two steps of a training, not during one.
    """
    with PROCESS_LOCK:
        arrays, ours = {}, store.arrays()
        for name, layout in _layouts(graph, ours=False).items():
            ordered = ours[name].reshape([layout.unfolded[axis] for axis in layout.order])
            arrays[name] = np.array(ordered.transpose(np.argsort(layout.order)).reshape(layout.shape))
        return arrays


def from_state_dict(graph: Graph, arrays: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Return the arrays of a PyTorch state dict in our layouts, the inverse of ``state_dict``."""
    shapes = {name: shape for name, (shape, _) in {**graph.parameters(), **graph.state()}.items()}
    return {
        name: arrays[name].reshape(layout.unfolded).transpose(layout.order).reshape(shapes[name])
        for name, layout in _layouts(graph, ours=False).items()
    }


@contextmanager
def _opened(path: Path) -> Iterator[TensorFile]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        hint = "" if path.suffix else "; weights are not downloaded: pass the file of a model or of a state dict"
        raise ModelFileError(f"{path}: no such file{hint}")
    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except NumbacnnError:
        raise
    except (SafetensorError, OSError, *DAMAGE) as error:
        raise ModelFileError(
            f"{path}: not a safetensors file, or damaged: {brief(error)}; "
            "save a PyTorch state dict as one by safetensors.torch.save_file"
        ) from None


def _format(file: TensorFile, path: str | PathLike[str]) -> str | None:
    found: str | None = (file.metadata() or {}).get("format")
    if found == CHECKPOINT_FORMAT:
        raise ModelFileError(f"{path}: a training checkpoint; use the run's model.safetensors")
    return found


# -- layouts ----------------------------------------------------------------------------------------------------------


def _layouts(graph: Graph, ours: bool) -> dict[str, TensorLayout]:
    """Return the layout in the file of every parameter and state of the model."""
    layouts, flattened = {}, _flattened_images(graph)
    for node in graph.nodes:
        image = None if ours else flattened[node.inputs[0]]
        arrays = {**node.layer.parameters(node.input_shapes), **node.layer.state(node.input_shapes)}
        for name, array in arrays.items():
            layout = _plain(array.shape) if ours else _pytorch_layout(node.layer.op, array.shape, image)
            layouts[f"{node.name}.{name}"] = layout
    return layouts


def _plain(shape: Shape) -> TensorLayout:
    return TensorLayout(shape, shape, tuple(range(len(shape))))


def _pytorch_layout(op: str, shape: Shape, image: Shape | None) -> TensorLayout:
    """``image`` is the (h, w, c) flattened to the layer's input; PyTorch flattens in the order c, h, w."""
    h, w, c = image or (1, 1, 1)
    if op in CONVOLUTIONS and len(shape) == 4:
        r, s, inner, outer = shape
        return TensorLayout((outer, inner, r, s), (outer, inner, r, s), (2, 3, 1, 0))
    if op == "dense" and len(shape) == 2:
        features, units = shape
        unfolded = (units, c, h, w) if image else (units, features, 1, 1)
        return TensorLayout((units, features), unfolded, (2, 3, 1, 0))
    if op != "dense" and image and shape == (h * w * c,):
        return TensorLayout(shape, (c, h, w), (1, 2, 0))
    return _plain(shape)


def _flattened_images(graph: Graph) -> list[Shape | None]:
    """Return for each value the (h, w, c) that a Flatten before it flattens, if no layer since reorders features."""
    images: list[Shape | None] = [None] * len(graph.input_shapes)
    for node in graph.nodes:
        shape = node.input_shapes[0]
        if node.layer.op == "flatten":
            images.append(shape if len(shape) == 3 else None)
        elif node.layer.op == "dense" or len(node.inputs) > 1 or node.shape != shape:
            images.append(None)
        else:
            images.append(images[node.inputs[0]])
    return images


def _copy(store: Parameters, name: str, tensor: TensorSlice, layout: TensorLayout) -> None:
    """Write the file's tensor a block of rows at a time: the whole would need as much memory again as our array."""
    rows, *rest = layout.unfolded
    axis, height = layout.order.index(0), layout.shape[0] // rows
    step = max(MIN_ROWS, BLOCK_FLOATS // prod(rest))
    with store.editing(name) as array:
        target = array.reshape([layout.unfolded[axis] for axis in layout.order])
        for start in range(0, rows, step):
            stop = min(rows, start + step)
            block = tensor[start * height : stop * height].reshape(stop - start, *rest)
            where = (slice(None),) * axis + (slice(start, stop),)
            np.copyto(target[where], block.transpose(layout.order), casting="same_kind")


# -- mismatches -------------------------------------------------------------------------------------------------------


def _compare(
    layouts: Mapping[str, TensorLayout], found: Mapping[str, TensorSlice], patterns: Sequence[str]
) -> tuple[LoadedWeights, list[str]]:
    """Compare names, shapes and types; return the report and a phrase for each kind of mismatch."""
    shapes = {name: tuple(tensor.get_shape()) for name, tensor in found.items()}
    missing = [name for name in layouts if name not in found]
    unexpected = [n for n in found if n not in layouts and not any(fnmatchcase(n, pattern) for pattern in patterns)]
    mismatched = {
        name: f'"{name}" is {phrase(found[name])}, not F32 {layout.shape}'
        for name, layout in layouts.items()
        if name in found and (shapes[name] != layout.shape or wrong_type(found[name], NUMBERS))
    }
    loaded = [name for name in layouts if name in found and name not in mismatched]
    wrong = [
        f"{what} {_listed(phrases)}"
        for what, phrases in (
            ("missing", [f'"{name}"' for name in missing]),
            ("unexpected", [f'"{name}"' for name in unexpected]),
            ("mismatched", mismatched.values()),
        )
        if phrases
    ]
    if any(tensor.get_dtype() not in NUMBERS for tensor in map(found.get, mismatched) if tensor is not None):
        wrong.append(f"convert to float32, as by tensor.float() in PyTorch: only {', '.join(NUMBERS)} are read")
    return LoadedWeights(tuple(loaded), tuple(missing), tuple(unexpected), tuple(mismatched)), wrong


def _listed(phrases: Iterable[str]) -> str:
    every = list(phrases)
    more = f" and {len(every) - MAX_LISTED} more" if len(every) > MAX_LISTED else ""
    return brief(", ".join(every[:MAX_LISTED]), 1000) + more
