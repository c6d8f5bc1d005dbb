"""Answers to unknown names, attributes and arguments: errors with our names, also for those of Keras and PyTorch."""

import functools
import inspect
from abc import ABCMeta
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar

from numbacnn._checks import did_you_mean, python_numbers
from numbacnn._checks.frameworks import ARGUMENTS, ATTRIBUTES, FRAMEWORKS
from numbacnn.errors import ArgumentError

P = ParamSpec("P")
R = TypeVar("R")


def missing_name(module: str, name: str, known: Iterable[str], homes: Mapping[str, str]) -> str:
    """Return the message of the AttributeError for a name that a module does not have.

    ``known`` are the names that it has; ``homes`` has the modules of the package by the names in them.
    """
    for framework, names in FRAMEWORKS.items():
        if name in names:
            return f"{framework} {name} is {names[name]}"
    if name in homes:
        return f"{name} is {homes[name]}.{name}"
    return _no_attribute(f"module {module!r}", name, known)


def public_names(module: ModuleType) -> list[str]:
    """Return ``__all__``, or the names of what a module defines itself."""
    own = [name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
    listed: list[str] = vars(module).get("__all__") or [name for name in own if not name.startswith("_")]
    return listed


def answer_names(module: ModuleType, homes: Mapping[str, str]) -> None:
    """Make a module answer unknown names with ``missing_name``."""

    def missing(name: str) -> NoReturn:
        raise AttributeError(missing_name(module.__name__, name, public_names(module), homes))

    vars(module)["__getattr__"] = missing


def _no_attribute(owner: str, name: str, known: Iterable[str]) -> str:
    hint = "" if name.startswith("_") else did_you_mean(name, known).strip()
    return f"{owner} has no attribute {name!r}{'; ' if hint else ''}{hint}"


class AnswersAttributes:
    """A class whose instances answer unknown attributes: with ours for another framework's, or the nearest name."""

    if not TYPE_CHECKING:  # a type checker rejects unknown attributes

        def __getattr__(self, name: str) -> NoReturn:
            if not name.startswith("_"):
                for kind in type(self).__mro__:
                    if name in (answers := ATTRIBUTES.get(kind.__name__, {})):
                        raise AttributeError(f"{type(self).__name__} has no {name}: {answers[name]}")
            known = [known for known in dir(type(self)) if not known.startswith("_")]
            raise AttributeError(_no_attribute(f"{type(self).__name__!r} object", name, known))


# -- arguments --------------------------------------------------------------------------------------------------------


class _ChecksCalls(ABCMeta):
    @property
    def __signature__(cls) -> inspect.Signature:
        """The signature of the constructor, without ``self``."""
        signature = _signature(cls.__init__)  # type: ignore[misc]
        return signature.replace(parameters=list(signature.parameters.values())[1:])

    if not TYPE_CHECKING:  # a type checker knows the constructors

        def __call__(cls, *args: Any, **options: Any) -> Any:
            _check_call(cls.__name__, cls.__init__, (None, *args), options)
            return super().__call__(
                *(python_numbers(value, arrays=True) for value in args),
                **{name: python_numbers(value, arrays=True) for name, value in options.items()},
            )


class ChecksArguments(metaclass=_ChecksCalls):
    """A class whose constructor answers arguments that do not fit, and takes NumPy's numbers for Python's.

    Raises ArgumentError.
    """


def checks_call(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function answer arguments that do not fit, at no cost to the calls that do. Raises ArgumentError."""

    @functools.wraps(function)
    def checked(*args: P.args, **options: P.kwargs) -> R:
        try:
            return function(*args, **options)
        except TypeError:
            _check_call(function.__name__, function, args, options)
            raise

    return checked


def checks_arguments(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function answer arguments that do not fit, and take NumPy's numbers for Python's. Raises ArgumentError."""
    call = checks_call(function)

    @functools.wraps(function)
    def checked(*args: P.args, **options: P.kwargs) -> R:
        return call(*map(python_numbers, args), **{name: python_numbers(value) for name, value in options.items()})

    return checked


def _check_call(owner: str, function: Callable[..., Any], args: tuple[Any, ...], options: Mapping[str, Any]) -> None:
    """Raise ArgumentError, with the names that are meant, if a call does not fit the signature of ``function``."""
    signature = _signature(function)
    try:
        signature.bind(*args, **options)
    except TypeError as error:
        names = [name for name in signature.parameters if name != "self"]
        for name in options:
            if name not in names:
                raise ArgumentError(_unknown_argument(owner, name, names)) from None
        raise ArgumentError(f"{owner}: {error}; its arguments are {', '.join(names)}") from None


_signature = functools.cache(inspect.signature)


def _unknown_argument(owner: str, name: str, known: Sequence[str]) -> str:
    answer = ARGUMENTS.get(name, ())
    if isinstance(answer, str):
        return f"{owner} has no argument {name}=; {answer}"
    for ours in answer:
        if ours in known:
            return f"{owner}: {name}= is {ours}="
    return f"{owner} has no argument {name}=; {did_you_mean(name, known)}its arguments are {', '.join(known)}"
