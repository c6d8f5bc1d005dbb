"""The form of a graph in model files: versioned, of JSON's own types, documented in docs/model-file.md."""

import importlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from numbacnn._checks import brief, did_you_mean
from numbacnn.engine.graph import Graph, Input
from numbacnn.errors import ModelFileError
from numbacnn.layers import REGISTRY, Layer, is_custom

FORMAT_VERSION = 1
DAMAGE = (ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, TypeError, ValueError)
"""Exceptions that rebuilding from a damaged form may raise, besides errors of this package."""


def to_dict(graph: Graph) -> dict[str, Any]:
    """Return the graph's form."""
    names = graph.names
    return {
        "version": FORMAT_VERSION,
        "inputs": [
            {"name": name, "shape": list(shape)}
            for name, shape in zip(graph.input_names, graph.input_shapes, strict=True)
        ],
        "nodes": [
            {
                "name": node.name,
                "op": node.layer.op,
                **({"module": type(node.layer).__module__} if is_custom(type(node.layer)) else {}),
                "inputs": [names[value] for value in node.inputs],
                "attributes": node.layer.attributes(),
            }
            for node in graph.nodes
        ],
        "outputs": [names[value] for value in graph.outputs],
        "auxiliary": [names[value] for value in graph.auxiliary],
    }


def from_dict(form: Any, layers: Sequence[type[Layer]] = ()) -> Graph:
    """Rebuild the graph of which ``form`` is the form. ``layers`` are custom layer classes besides the known ones.

    Raises ModelFileError if the form is damaged or of a newer version, or a layer's class is unknown.
    """
    known = {layer.op: layer for layer in layers}
    version = form.get("version") if isinstance(form, dict) else None
    if not isinstance(version, int):
        raise ModelFileError("the graph has no version: the file is damaged")
    if version > FORMAT_VERSION:
        raise ModelFileError(
            f"the graph has version {version}, newer than this numbacnn reads ({FORMAT_VERSION}); upgrade numbacnn"
        )
    try:
        return _rebuild(form, known)
    except DAMAGE as error:
        raise ModelFileError(f"the graph cannot be rebuilt: {brief(error)}") from None


def _rebuild(form: dict[str, Any], known: Mapping[str, type[Layer]]) -> Graph:
    tensors = {item["name"]: Input(item["shape"], item["name"]) for item in form["inputs"]}
    inputs = list(tensors.values())
    for item in form["nodes"]:
        kind = known.get(item["op"]) or _find_class(item["op"], item["name"], item.get("module"))
        layer = make_layer(kind, item["attributes"], item["name"])
        read = [tensors[name] for name in item["inputs"]]
        if not read:
            raise ModelFileError(f'node "{item["name"]}" has no inputs')
        tensors[item["name"]] = read[0].record(layer, read)
    outputs, auxiliary = ([tensors[name] for name in names] for names in (form["outputs"], form.get("auxiliary", [])))
    return Graph(inputs, outputs, auxiliary)


def _find_class(op: str, name: str, module: str | None) -> type[Layer]:
    """The class of a node, among those that are defined: what a file names is never imported, since that runs code."""
    if op in REGISTRY:
        return REGISTRY[op]
    if module is not None:
        raise ModelFileError(
            f'node "{name}" is a layer {op!r} of your own, from {module}; reading a file imports nothing: import that '
            "module before (--import on the command line), or pass the class: nc.load(file, layers=[TheClass])"
        )
    hint = did_you_mean(op, REGISTRY).strip()
    raise ModelFileError(f'node "{name}" is of an unknown kind {op!r}{"; " if hint else ""}{hint}')


def import_custom_layers(form: Mapping[str, Any]) -> None:
    """Imports the modules of a user's own layers, as unpickling does with what a pickle names; never for a file."""
    for item in form["nodes"]:
        if item["op"] not in REGISTRY and "module" in item:
            importlib.import_module(item["module"])


def make_layer(layer: type[Layer], attributes: dict[str, Any], name: str) -> Layer:
    """A layer from its form in a model file."""
    known = set(inspect.signature(layer).parameters) - {"name"}
    unknown = sorted(set(attributes) - known)
    if unknown:
        raise ModelFileError(f'node "{name}" ({layer.op}) has an unknown attribute {unknown[0]!r}')
    frozen = {key: _tuples(value) for key, value in attributes.items()}
    return layer(**frozen, name=name)


def _tuples(value: Any) -> Any:
    """JSON's lists as the tuples they were."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
