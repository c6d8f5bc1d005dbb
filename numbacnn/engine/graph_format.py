"""Graphs as JSON objects, as model files store them: docs/model-file.md describes the versioned format."""

import importlib
import inspect
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from numbacnn._checks import brief, did_you_mean
from numbacnn.engine.graph import Graph, Input
from numbacnn.engine.limits import check_form
from numbacnn.errors import ModelFileError
from numbacnn.layers import REGISTRY, Layer, is_custom

FORMAT_VERSION = 1
DAMAGE = (ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, TypeError, ValueError)
"""Exceptions that rebuilding from a damaged object may raise, besides errors of this package."""


def to_dict(graph: Graph) -> dict[str, Any]:
    """Return the graph as a JSON object."""
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


def from_dict(content: object, layers: Sequence[type[Layer]] = (), limits: bool = False) -> Graph:
    """Rebuild a graph from its JSON object. ``layers`` are custom layer classes besides those in the registry.

    Raises ModelFileError if the object is damaged or of a newer version, a layer's class is unknown, or with ``limits``
    it exceeds those of ``engine.limits``.
    """
    known = {layer.op: layer for layer in layers}
    if not isinstance(content, dict) or not isinstance(content.get("version"), int):
        raise ModelFileError("the graph has no version: the file is damaged")
    version = content["version"]
    if version > FORMAT_VERSION:
        raise ModelFileError(
            f"the graph has version {version}, newer than this numbacnn reads ({FORMAT_VERSION}); upgrade numbacnn"
        )
    try:
        if limits:
            check_form(content)
        return _rebuild(content, known)
    except ModelFileError:
        raise
    except DAMAGE as error:
        raise ModelFileError(f"the graph cannot be rebuilt: {brief(error)}") from None


def _rebuild(content: dict[str, Any], known: Mapping[str, type[Layer]]) -> Graph:
    tensors = {item["name"]: Input(item["shape"], item["name"]) for item in content["inputs"]}
    inputs = list(tensors.values())
    for item in content["nodes"]:
        kind = known.get(item["op"]) or _find_class(item["op"], item["name"], item.get("module"))
        layer = make_layer(kind, item["attributes"], item["name"])
        read = [tensors[name] for name in item["inputs"]]
        if not read:
            raise ModelFileError(f'node "{item["name"]}" has no inputs')
        tensors[item["name"]] = read[0].record(layer, read)
    listed = content["outputs"], content.get("auxiliary", [])
    outputs, auxiliary = ([tensors[name] for name in names] for names in listed)
    return Graph(inputs, outputs, auxiliary)


def _find_class(op: str, name: str, module: str | None) -> type[Layer]:
    """Return the class of a node if it is defined. Modules that a file names are never imported: that runs code."""
    if op in REGISTRY:
        return REGISTRY[op]
    if module is not None:
        raise ModelFileError(
            f'node "{name}" is a custom layer, {op!r} of {module}; reading a file imports nothing: import that module '
            "before (--import on the command line), or pass the class: nc.load(file, layers=[TheClass])"
        )
    hint = did_you_mean(op, REGISTRY).strip()
    raise ModelFileError(f'node "{name}" is of an unknown kind {op!r}{"; " if hint else ""}{hint}')


def import_custom_layers(content: Mapping[str, Any]) -> None:
    """Import the modules of custom layers, as unpickling does; never for a file."""
    for item in content["nodes"]:
        if item["op"] not in REGISTRY and "module" in item:
            importlib.import_module(item["module"])


def make_layer(layer: type[Layer], attributes: Mapping[str, Any], name: str) -> Layer:
    """Return a layer from its attributes in a model file."""
    unknown = sorted(set(attributes) - _arguments(layer))
    if unknown:
        raise ModelFileError(f'node "{name}" ({layer.op}) has an unknown attribute {unknown[0]!r}')
    return layer(**{key: _as_tuples(value) for key, value in attributes.items()}, name=name)


@cache
def _arguments(layer: type[Layer]) -> frozenset[str]:
    return frozenset(inspect.signature(layer).parameters) - {"name"}


def _as_tuples(value: object) -> object:
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value
