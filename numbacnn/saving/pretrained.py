"""Weights by name from a safetensors file: a PyTorch state dict, whose layouts are permuted, or a model file of ours.

Tensors are read some rows at a time, straight into the model's memory: the file is never held as a whole beside it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from math import prod
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from numbacnn.engine.graph import Graph, Node
from numbacnn.engine.parameters import Parameters
from numbacnn.errors import ModelFileError
from numbacnn.geometry import Shape
from numbacnn.saving.format import CHECKPOINT_FORMAT, FORMAT, check_digest

CONVOLUTIONS = ("conv2d", "depthwise_conv2d", "conv2d_transpose")
NUMBERS = ("F32", "F16", "F64")
COUNTERS = "*num_batches_tracked"  # PyTorch's batch normalisation counts batches, and we have no use for it
LISTED = 5  # names in an error message
BLOCK_FLOATS = 1 << 21  # that are read at once,
LEAST_ROWS = 16  # unless so many rows are more: they become neighbours, and fill cache lines


class LoadedWeights(NamedTuple):
    """What was written, by name; what the file lacks; what no layer has; and what does not fit."""

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[str, ...]


class TensorLayout(NamedTuple):
    """How a file's tensor becomes our array: its ``shape``, seen as ``unfolded``, its axes put in ``order``."""

    shape: Shape
    unfolded: Shape
    order: tuple[int, ...]


def load_weights(
    graph: Graph, store: Parameters, path: str | PathLike[str], strict: bool = True, ignore: Sequence[str] = ()
) -> LoadedWeights:
    """Writes the file's tensors into the arrays of the same names; see ``Model.load_weights``."""
    patterns = (COUNTERS, *ignore)
    with _opened(Path(path)) as file:
        ours = _format(file, path) == FORMAT
        if ours:
            check_digest(Path(path), file)
        layouts = _layouts(graph, ours)
        found = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        report, wrong = _compare(layouts, found, patterns)
        if not strict and not report.loaded:
            raise ModelFileError(f"{path}: none of its tensors has the name of a parameter, and its shape")
        if strict and wrong:
            raise ModelFileError(f"{path}: {'; '.join(wrong)}")
        if len(report.loaded) == len(layouts):
            store.skip_initialization()
        for name in report.loaded:
            _copy(store, name, found[name], layouts[name])
    return report


def state_dict_shapes(graph: Graph) -> dict[str, Shape]:
    """Shapes of the tensors of a PyTorch state dict that fits the graph, by name."""
    return {name: layout.shape for name, layout in _layouts(graph, ours=False).items()}


def state_dict(graph: Graph, store: Parameters) -> dict[str, NDArray[np.float32]]:
    """The arrays of ``graph``, trained or kept, in the layouts of a PyTorch state dict: what ``load_weights`` reads."""
    arrays, ours = {}, store.arrays()
    for name, layout in _layouts(graph, ours=False).items():
        ordered = ours[name].reshape([layout.unfolded[axis] for axis in layout.order])
        arrays[name] = ordered.transpose(np.argsort(layout.order)).reshape(layout.shape)
    return arrays


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise ModelFileError(f"{path}: there is no such file")
    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise ModelFileError(
            f"{path}: not a safetensors file, or damaged: {str(error).splitlines()[0]}; "
            "a PyTorch state dict is saved as one by safetensors.torch.save_file"
        ) from None


def _format(file: Any, path: str | PathLike[str]) -> str | None:
    found: str | None = (file.metadata() or {}).get("format")
    if found == CHECKPOINT_FORMAT:
        raise ModelFileError(f"{path}: the checkpoint of a training; give the run's model.safetensors")
    return found


# -- from a file's layout to ours -------------------------------------------------------------------------------------


def _layouts(graph: Graph, ours: bool) -> dict[str, TensorLayout]:
    """Of every array of the model, trained or kept, how it lies in the file."""
    layouts = {}
    for node in graph.nodes:
        image = None if ours else _flattened_image(graph, node)
        arrays = {**node.layer.parameters(node.input_shapes), **node.layer.state(node.input_shapes)}
        for name, array in arrays.items():
            layout = _plain(array.shape) if ours else _pytorch_layout(node.layer.op, array.shape, image)
            layouts[f"{node.name}.{name}"] = layout
    return layouts


def _plain(shape: Shape) -> TensorLayout:
    return TensorLayout(shape, shape, tuple(range(len(shape))))


def _pytorch_layout(op: str, shape: Shape, image: Shape | None) -> TensorLayout:
    """``image``: (h, w, c) that was flattened to the layer's input, which PyTorch does in the order c, h, w."""
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


def _flattened_image(graph: Graph, node: Node) -> Shape | None:
    """(h, w, c) of the image whose Flatten is the node's input, with nothing between that reorders features."""
    while True:
        i = node.inputs[0] - len(graph.input_shapes)
        if i < 0:
            return None
        node = graph.nodes[i]
        if node.layer.op == "flatten":
            return node.input_shapes[0] if len(node.input_shapes[0]) == 3 else None
        if node.layer.op == "dense" or len(node.inputs) > 1 or node.shape != node.input_shapes[0]:
            return None


def _copy(store: Parameters, name: str, tensor: Any, layout: TensorLayout) -> None:
    """Writes some rows of the file's tensor at a time: whole, it would be as large again as our array."""
    rows, *rest = layout.unfolded
    place, height = layout.order.index(0), layout.shape[0] // rows
    step = max(LEAST_ROWS, BLOCK_FLOATS // prod(rest))
    with store.editing(name) as array:
        target = array.reshape([layout.unfolded[axis] for axis in layout.order])
        for start in range(0, rows, step):
            stop = min(rows, start + step)
            block = tensor[start * height : stop * height].reshape(stop - start, *rest)
            where = (slice(None),) * place + (slice(start, stop),)
            np.copyto(target[where], block.transpose(layout.order), casting="same_kind")


# -- what does not fit ------------------------------------------------------------------------------------------------


def _compare(
    layouts: Mapping[str, TensorLayout], found: Mapping[str, Any], patterns: Sequence[str]
) -> tuple[LoadedWeights, list[str]]:
    """What can be loaded, and a phrase for each kind of tensors that cannot."""
    shapes = {name: tuple(tensor.get_shape()) for name, tensor in found.items()}
    dtypes = {name: tensor.get_dtype() for name, tensor in found.items()}
    missing = [name for name in layouts if name not in found]
    unexpected = [n for n in found if n not in layouts and not any(fnmatchcase(n, pattern) for pattern in patterns)]
    misshapen = {
        name: f'"{name}" is {dtypes[name]} {shapes[name]}, not F32 {layout.shape}'
        for name, layout in layouts.items()
        if name in found and (shapes[name] != layout.shape or dtypes[name] not in NUMBERS)
    }
    loaded = [name for name in layouts if name in found and name not in misshapen]
    wrong = [
        f"{what} {_listed(phrases)}"
        for what, phrases in (
            ("missing", [f'"{name}"' for name in missing]),
            ("of no layer", [f'"{name}"' for name in unexpected]),
            ("misshapen", misshapen.values()),
        )
        if phrases
    ]
    return LoadedWeights(tuple(loaded), tuple(missing), tuple(unexpected), tuple(misshapen)), wrong


def _listed(phrases: Iterable[str]) -> str:
    every = list(phrases)
    more = f" and {len(every) - LISTED} more" if len(every) > LISTED else ""
    return ", ".join(every[:LISTED]) + more
