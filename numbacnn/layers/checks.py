"""Checks of custom layers: of what their methods take, when a class is defined, and of what they return."""

from collections.abc import Mapping, Sequence
from types import FunctionType
from typing import Any, TypeVar

from numbacnn._checks import check_takes, shown, whole
from numbacnn.errors import ArgumentError
from numbacnn.geometry import Shape

METHODS = {
    "forward": "kernels, t, g",
    "backward": "kernels, t, g",
    "output_shape": "shapes",
    "geometry": "shapes",
    "parameters": "shapes",
    "state": "shapes",
    "scratch": "sizes, geometry, batch",
}
WHEN = ("forward", "backward", "saved", "prepared")

Spec = TypeVar("Spec")


def check_methods(layer: type) -> None:
    """Raise ArgumentError if a class has methods that the engine cannot call, or no number of inputs."""
    inputs = vars(layer).get("inputs", 1)
    if inputs is not None and not (isinstance(inputs, int) and inputs > 0):
        raise ArgumentError(f"{layer.__name__}.inputs is {shown(inputs)}; use a whole number, or None for two or more")
    for name, parameters in METHODS.items():
        method = vars(layer).get(name)
        if isinstance(method, FunctionType):
            instead = f"define {name}(self, {parameters})"
            check_takes(method, f"self, {parameters}", f"{layer.__name__}.{name}", instead)


def checked_shape(shape: object, label: str) -> Shape:
    """Return what ``output_shape`` has returned. Raises ArgumentError unless it is the shape of an image."""
    if not isinstance(shape, Sequence) or isinstance(shape, str) or len(shape) not in (1, 3):
        raise ArgumentError(
            f"{label}: output_shape returned {shown(shape)}; return (height, width, channels) or (features,)"
        )
    return tuple([whole(size, f"{label}: a size that output_shape returned", 1, (1 << 31) - 1) for size in shape])


def checked_specs(layer: object, method: str, found: Any, kind: type[Spec]) -> Mapping[str, Spec]:
    """Return what ``parameters`` or ``scratch`` has returned. Raises ArgumentError if it is anything else."""
    owner, wanted = f"{type(layer).__name__}.{method}", f"return {{name: nc.{kind.__name__}(shape, …)}}"
    if not isinstance(found, Mapping):
        raise ArgumentError(f"{owner} returned {shown(found)}; {wanted}")
    for name, spec in found.items():
        if not isinstance(name, str) or not isinstance(spec, kind):
            raise ArgumentError(f"{owner} returned {shown(spec)} for {shown(name)}; {wanted}")
        _check_spec(f"{owner}: {name}", spec)
    return found


def _check_spec(label: str, spec: Any) -> None:
    """Raise ArgumentError if a specification has no shape, or a time that does not exist."""
    if not isinstance(spec.shape, Sequence) or isinstance(spec.shape, str):
        raise ArgumentError(f"{label} of shape {shown(spec.shape)}; pass a tuple of sizes")
    for size in spec.shape:
        whole(size, f"{label}: a size of shape {shown(spec.shape)}", 0)
    if getattr(spec, "when", "forward") not in WHEN:
        raise ArgumentError(f"{label}: when={shown(spec.when)}; pass {', '.join(WHEN)}")
