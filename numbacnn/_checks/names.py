"""Answers to unknown names, attributes and arguments: errors with our names, also for those of Keras and PyTorch."""

import dis
import functools
import importlib
import inspect
import sys
from abc import ABCMeta
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.abc import MetaPathFinder
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar

from numbacnn._checks import did_you_mean, python_numbers
from numbacnn._checks.attributes import ASSIGNED, ATTRIBUTES
from numbacnn._checks.frameworks import ARGUMENTS, FRAMEWORKS
from numbacnn.errors import ArgumentError

P = ParamSpec("P")
R = TypeVar("R")
MAX_LISTED = 40  # names of a module that an error lists
FEW = 8  # names of an instance


def missing_name(module: str, name: str, known: Iterable[str], homes: Mapping[str, str]) -> str:
    """Return the message of the AttributeError for a name that a module does not have.

    ``known`` are the names that it has; ``homes`` has the modules of the package by the names in them.
    """
    for framework, names in FRAMEWORKS.items():
        if name in names:
            return f"{framework} {name} is {names[name]}"
    if name in homes:
        return f"{name} is {homes[name]}.{name}"
    if name.endswith("_Weights"):  # of torchvision
        return f"{name} is the argument weights= of nc.models, a file: weights are not downloaded"
    found, listed = _no_attribute(f"module {module!r}", name, known), sorted(known)
    return found if "; " in found or len(listed) > MAX_LISTED else f"{found}; it has {', '.join(listed)}"


def public_names(module: ModuleType) -> list[str]:
    """Return ``__all__``, or the names of what a module defines itself."""
    own = [name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
    listed: list[str] = vars(module).get("__all__") or [name for name in own if not name.startswith("_")]
    return listed


def answer_names(module: ModuleType, homes: Mapping[str, str], lazy: Sequence[str] = ()) -> None:
    """Make a module answer unknown names with ``missing_name``. Its submodules ``lazy`` are imported on first use."""

    def missing(name: str) -> ModuleType:
        if name in lazy:
            return importlib.import_module(f"{module.__name__}.{name}")
        kind = ImportError if _is_imported(sys._getframe(1)) else AttributeError
        raise kind(missing_name(module.__name__, name, public_names(module), homes))

    vars(module)["__getattr__"] = missing


def _is_imported(frame: FrameType) -> bool:
    """Return whether a frame is at ``from MODULE import NAME``, which drops the message of an AttributeError."""
    return _instruction(frame) == "IMPORT_FROM"


def is_unpacked(frame: FrameType) -> bool:
    """Return whether a frame is at ``a, b = …``, which assigns the elements of something to names."""
    return _instruction(frame) == "UNPACK_SEQUENCE"


def _instruction(frame: FrameType) -> str:
    return dis.opname[frame.f_code.co_code[frame.f_lasti]]


class _Submodules(MetaPathFinder):
    """Answers the import of a module of another framework below ours, ``import numbacnn.nn``."""

    def __init__(self, package: str) -> None:
        self._start = f"{package}."

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Raise ModuleNotFoundError with our name; find nothing."""
        module = name.removeprefix(self._start)
        if module != name:
            for framework, names in FRAMEWORKS.items():
                if module in names:
                    raise ModuleNotFoundError(f"{framework} {module} is {names[module]}", name=name)


def answer_imports(package: str) -> None:
    """Answer the import of submodules that a package does not have. Other imports are not looked at."""
    sys.meta_path.append(_Submodules(package))


def _no_attribute(owner: str, name: str, known: Iterable[str]) -> str:
    hint = "" if name.startswith("_") else did_you_mean(name, known).strip(" ;")
    return f"{owner} has no attribute {name!r}{'; ' if hint else ''}{hint}"


class UnsupportedOperation(ArgumentError, TypeError):  # noqa: N818 (as in io)
    """An operator is not defined for an object; a TypeError as for any other object of Python."""


class _Answered:
    """An attribute that cannot be read or assigned."""

    def __init__(self, message: str) -> None:
        self._message = message

    def __get__(self, instance: object, owner: type | None = None) -> NoReturn:
        raise AttributeError(self._message)

    def __set__(self, instance: object, value: object) -> NoReturn:
        raise AttributeError(self._message)


class _AnswersOfClass(ABCMeta):
    """The class answers unknown names of its own, such as another framework's constructors."""

    if not TYPE_CHECKING:

        def __getattr__(cls, name: str) -> NoReturn:
            if not name.startswith("_"):
                _raise_answer(cls, name)
            raise AttributeError(_no_attribute(f"{cls.__name__!r}", name, [n for n in dir(cls) if n[0] != "_"]))


def _answers(cls: type) -> Mapping[str, str]:
    """Return the answers of a class; a custom class has none, whatever its name."""
    return ATTRIBUTES.get(cls.__name__, {}) if cls.__module__.partition(".")[0] == "numbacnn" else {}


def _raise_answer(cls: type, name: str) -> None:
    """Raise AttributeError with our name for one of another framework's, if there is one."""
    for kind in cls.__mro__:
        if name in (answers := _answers(kind)):
            raise AttributeError(f"{cls.__name__} has no {name}: {answers[name]}")


class AnswersAttributes(metaclass=_AnswersOfClass):
    """A class that answers unknown attributes, as do its instances: with ours, or with the nearest name.

    The same table answers operators, such as ``len`` and ``/``, and ``ASSIGNED`` attributes also if they are set.
    """

    def __init_subclass__(cls, **options: object) -> None:
        super().__init_subclass__(**options)
        for name, answer in _answers(cls).items():
            if name.startswith("__"):
                setattr(cls, name, _answering(answer))
            elif name in ASSIGNED:
                setattr(cls, name, _Answered(f"{cls.__name__} has no {name}: {answer}"))

    def _parts(self) -> Sequence[str]:
        """Return names by which an instance has other attributes than its class."""
        return ()

    if not TYPE_CHECKING:  # a type checker rejects unknown attributes

        def __getattr__(self, name: str) -> NoReturn:
            if not name.startswith("_"):
                _raise_answer(type(self), name)
            known = [known for known in dir(type(self)) if not known.startswith("_") and known not in ASSIGNED]
            parts = () if name.startswith("_") else self._parts()
            found = _no_attribute(f"{type(self).__name__!r} object", name, [*known, *parts])
            more = f"; it has {', '.join(parts[:FEW])}{', …' * (len(parts) > FEW)}"
            raise AttributeError(found + more * bool(parts and "; " not in found))


def _answering(answer: str) -> Callable[..., NoReturn]:
    """Return a method for an operator that there is not."""

    def operator(*operands: object) -> NoReturn:
        raise UnsupportedOperation(answer)

    return operator


# -- arguments --------------------------------------------------------------------------------------------------------


class _ChecksCalls(_AnswersOfClass):
    @property
    def __signature__(cls) -> inspect.Signature:
        """The signature of the constructor, without ``self``."""
        signature = _signature(cls.__init__)  # type: ignore[misc]
        return signature.replace(parameters=list(signature.parameters.values())[1:])

    if not TYPE_CHECKING:  # a type checker knows the constructors

        def __call__(cls, *args: object, **options: object) -> object:
            try:
                return super().__call__(
                    *[python_numbers(value, arrays=True) for value in args],
                    **{name: python_numbers(value, arrays=True) for name, value in options.items()},
                )
            except TypeError:
                _check_call(cls.__name__, cls.__init__, (None, *args), options)
                raise


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
    """Make a function explain arguments that do not fit, and convert NumPy's numbers. Raises ArgumentError."""
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
        if " " in ours:
            return f"{owner} has no argument {name}=; {ours}"
        if ours in known:
            return f"{owner}: {name}= is {ours}="
    return f"{owner} has no argument {name}=; {did_you_mean(name, known)}its arguments are {', '.join(known)}"
