"""ONNX files as models: the file, its metadata, and the weights."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import onnx
from google.protobuf.message import DecodeError

from numbacnn._checks import brief, one_of
from numbacnn.data.normalization import Normalization
from numbacnn.engine.graph import Graph
from numbacnn.engine.graph_format import DAMAGE
from numbacnn.engine.limits import check_graph
from numbacnn.errors import ArgumentError, ModelFileError
from numbacnn.layers.convolution import ALGORITHMS, Conv2D
from numbacnn.onnx import MAX_COMPUTED
from numbacnn.onnx.folding import constant_of
from numbacnn.onnx.reader import MAX_NODES, Reader
from numbacnn.onnx.values import Constant
from numbacnn.saving.format import ModelFile
from numbacnn.tasks import task_of


def read_model(
    path: Path,
    shapes: Mapping[str, Sequence[int]] = MappingProxyType({}),
    max_computed: int = MAX_COMPUTED,
    batch_axis: bool = True,
    limits: bool = True,
) -> ModelFile:
    """Read a file; ``onnx.load`` documents arguments and errors."""
    if not path.is_file():
        raise ModelFileError(f"{path}: no such file")
    try:
        proto = onnx.load_model_from_string(path.read_bytes())
        content = content_of(proto, path.parent, shapes, max_computed, batch_axis)
        if limits:
            check_graph(content.graph, sum(array.nbytes for array in content.arrays.values()))
        return content
    except (ModelFileError, ArgumentError) as error:
        raise ModelFileError(f"{path}: {brief(error)}") from None
    except DecodeError as error:
        raise ModelFileError(f"{path}: not an ONNX file, or damaged: {brief(error)}") from None
    except DAMAGE as error:
        raise ModelFileError(f"{path}: damaged: {brief(repr(error))}") from None


def content_of(
    proto: onnx.ModelProto,
    folder: Path | None = None,
    shapes: Mapping[str, Sequence[int]] = MappingProxyType({}),
    max_computed: int = MAX_COMPUTED,
    batch_axis: bool = True,
) -> ModelFile:
    """Return the content of an ONNX model in our form; external data is read from files in ``folder``."""
    _check(proto, shapes, batch_axis)
    initializers = constants_of(proto, folder)
    reader = Reader(proto, initializers, max_computed, batch_axis)
    graph = reader.read()
    arrays = {f"{node.name}.{k}": a for node in graph.nodes for k, a in reader.arrays[id(node.layer)].items()}
    frozen = {name for node in graph.nodes if id(node.layer) in reader.constants for name in node.parameters}
    metadata = {item.key: item.value for item in proto.metadata_props}
    if "numbacnn" in metadata:
        _force(graph, json.loads(metadata.get("algorithms", "{}")))
    classes, normalization, task = _described(graph, metadata if "numbacnn" in metadata else {}, reader.raw)
    several = len(graph.input_shapes) > 1, len(graph.outputs) > 1
    return ModelFile(graph, arrays, classes, normalization, *several, 0.3, task, frozenset(frozen))


def constants_of(proto: onnx.ModelProto, folder: Path | None) -> dict[str, Constant]:
    """Return the stored tensors by name."""
    found: dict[str, Constant] = {}
    for tensor in proto.graph.initializer:
        if tensor.name in found:
            raise ModelFileError(f'two tensors are called "{brief(tensor.name)}"')
        found[tensor.name] = constant_of(tensor, folder)
    return found


def _check(proto: onnx.ModelProto, shapes: Mapping[str, Sequence[int]], batch_axis: bool) -> None:
    """Raise ModelFileError for what no network has; write the given shapes of inputs."""
    if not proto.HasField("graph") or not proto.graph.output:
        raise ModelFileError("not an ONNX file, or damaged: it has no graph")
    if not any(item.domain in ("", "ai.onnx") and item.version > 0 for item in proto.opset_import):
        raise ModelFileError("it does not say which version of ONNX's operators it uses")
    if len(proto.graph.node) > MAX_NODES:
        raise ModelFileError(f"{len(proto.graph.node):,} operators, more than {MAX_NODES:,}")
    if proto.functions or proto.graph.sparse_initializer:
        raise ModelFileError("functions and sparse tensors are not supported; inline or expand them")
    inputs = {item.name: item for item in proto.graph.input}
    for name, shape in shapes.items():
        if name not in inputs:
            raise ModelFileError(f'shapes: no input is called "{name}"; there are {", ".join(inputs)}')
        sizes = inputs[name].type.tensor_type.shape
        batch = sizes.dim[0].dim_value if sizes.dim else 0
        del sizes.dim[:]
        for size in (batch, *shape) if batch_axis else shape:
            sizes.dim.add().dim_value = size
        if batch_axis and not batch:
            sizes.dim[0].ClearField("dim_value")


def _force(graph: Graph, algorithms: Mapping[str, str]) -> None:
    """Give convolutions the algorithms that they were saved with."""
    for node in graph.nodes:
        if node.name in algorithms and isinstance(node.layer, Conv2D):
            node.layer.algorithm = one_of(algorithms[node.name], "algorithm", ALGORITHMS)
            node.kind = replace(node.kind, layer=node.layer)
            node.geometry  # noqa: B018 (it raises an error if the algorithm does not fit)


def _described(
    graph: Graph, metadata: Mapping[str, str], raw: bool
) -> tuple[tuple[str, ...] | None, Normalization | None, str | None]:
    """Return class names, normalization and task of the metadata that ``onnx.save`` wrote."""
    output, channels = graph.shapes[graph.outputs[0]], graph.input_shapes[0][-1]
    classes, task = json.loads(metadata.get("classes", "null")), metadata.get("task")
    if classes is not None and not len(classes) <= output[-1]:
        raise ModelFileError(f"it names {len(classes)} classes, more than it has outputs")
    if task is not None:
        task_of(task, graph.input_shapes[0]).check_output(output)
    normalization = None
    if raw:  # the network normalizes: its input is the numbers from 0 to 255
        normalization = Normalization((0.0,) * channels, (1 / 255,) * channels)
    elif "normalization" in metadata:
        normalization = Normalization.from_dict(json.loads(metadata["normalization"]))
        if len(normalization.mean) != channels:
            raise ModelFileError(f"its normalization has {len(normalization.mean)} channels, unlike its input")
    return None if classes is None else tuple(map(str, classes)), normalization, task
