"""One definition of an elementwise kernel for every device: a scalar function, and the arrays it reads and writes."""

import dis
import inspect
import linecache
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import FunctionType
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

F = TypeVar("F", bound=Callable[..., Any])


class Entry(NamedTuple):
    """A number that a kernel reads from a small float64 array on the device, so that it can change between replays of a
    recorded launch."""

    array: str
    position: int

    def __str__(self) -> str:
        return f"{self.array}[{self.position}]"


class Entries:
    """Annotations of such numbers: a parameter annotated with ``scalars[1]`` is element 1 of ``scalars``, an array that
    the launcher takes in place of the parameter."""

    def __init__(self, array: str) -> None:
        self._array = array

    def __getitem__(self, position: int) -> Entry:
        return Entry(self._array, position)


@dataclass(frozen=True)
class Formula:
    """A scalar function, which the launcher called ``name`` applies to every element of arrays of equal shape.

    ``function`` takes an element of each of the ``inputs``, then the ``constants``, and returns the new element of the
    output, or a tuple of one for each of the ``outputs``. The arrays are N×H×W×C, or have one axis if ``flat``. If
    ``condition`` is given and 0, the launcher changes nothing.
    """

    name: str
    function: Callable[..., Any]
    outputs: tuple[str, ...]
    inputs: tuple[str, ...]
    constants: Mapping[str, Any]  # name → np.float32, np.float64, bool, NamedTuple class, or Entry
    flat: bool = False
    condition: Entry | None = None

    @cached_property
    def arrays(self) -> tuple[str, ...]:
        """Outputs that the function does not read, then inputs."""
        return (*(name for name in self.outputs if name not in self.inputs), *self.inputs)

    @cached_property
    def entries(self) -> dict[str, Entry]:
        """The constants that are read from arrays."""
        return {name: kind for name, kind in self.constants.items() if isinstance(kind, Entry)}

    @cached_property
    def numbers(self) -> dict[str, Any]:
        """The launcher's parameters after the arrays, with their types; arrays of entries replace the entries."""
        numbers: dict[str, Any] = {self.condition.array: NDArray[np.float64]} if self.condition else {}
        for name, kind in self.constants.items():
            if isinstance(kind, Entry):
                numbers[kind.array] = NDArray[np.float64]
            else:
                numbers[name] = kind
        return numbers

    @cached_property
    def arguments(self) -> tuple[str, ...]:
        """The arguments of the function, in terms of the launcher's parameters."""
        return (*self.inputs, *(str(self.entries.get(name, name)) for name in self.constants))

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        """The launcher's parameters."""
        return (*self.arrays, *self.numbers)

    @cached_property
    def signature(self) -> inspect.Signature:
        """The launcher's signature."""
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        return inspect.Signature([inspect.Parameter(name, kind) for name in self.parameters])


FORMULAS: dict[str, Formula] = {}


def elementwise(
    outputs: str, *, name: str = "", flat: bool = False, condition: Entry | None = None
) -> Callable[[F], F]:
    """Register a scalar function as an elementwise operation on every device; it is returned unchanged.

    Parameters without annotation are elements of input arrays; the others are constants of the annotated types.
    ``outputs`` names the arrays to write, separated by spaces; one that is also a parameter is updated in place.
    ``name`` is the launcher's, by default the function's; ``flat`` and ``condition`` as in ``Formula``. The function
    may call ``math``, and other scalar functions in Python.
    """

    def define(function: F) -> F:
        parts = inspect.signature(function).parameters.values()
        inputs = tuple(part.name for part in parts if part.annotation is part.empty)
        constants = {part.name: part.annotation for part in parts if part.annotation is not part.empty}
        launcher = name or function.__name__
        FORMULAS[launcher] = Formula(launcher, function, tuple(outputs.split()), inputs, constants, flat, condition)
        return function

    return define


def custom_activation(name: str, function: Callable[..., Any], gradient: Callable[..., Any]) -> tuple[Formula, Formula]:
    """The formulas ``name_forward(y, x)`` and ``name_gradient_in_place(dy, x)`` of a user's f(x) and g(dy, x), with any
    names of parameters."""
    return (
        Formula(f"{name}_forward", function, ("y",), ("x",), {}),
        Formula(f"{name}_gradient_in_place", gradient, ("dy",), ("dy", "x"), {}),
    )


def with_math(function: Callable[..., Any], math: Any, part: Callable[[Callable[..., Any]], Any]) -> Any:
    """Copy a scalar function for a device: the copy uses that device's ``math``, and calls copies of the Python
    functions that the original calls, compiled by ``part``."""
    known = dict(function.__globals__)
    for name in {step.argval for step in dis.get_instructions(function) if step.opname == "LOAD_GLOBAL"}:
        if isinstance(known.get(name), FunctionType):
            known[name] = part(with_math(known[name], math, part))
    known["math"] = math
    return FunctionType(function.__code__, known, f"{function.__name__}_element", None, function.__closure__)


def generated(lines: Sequence[str], name: str, **known: Any) -> Any:
    """Define the function ``kernel`` from lines of source, with the globals ``known``, and rename it to ``name``."""
    source, file = "\n".join(lines), f"<generated {name}>"
    linecache.cache[file] = len(source), None, source.splitlines(keepends=True), file  # for tracebacks
    exec(compile(source, file, "exec"), known)
    function = known["kernel"]
    function.__name__ = function.__qualname__ = name
    return function
