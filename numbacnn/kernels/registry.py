"""The launchers of each device by name, registered where they are defined."""

import importlib
import pkgutil
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, TypeVar

T = TypeVar("T", bound=Callable[..., Any])
PACKAGE = "numbacnn.kernels."

_namespaces: dict[str, SimpleNamespace] = {}


def launcher(function: T) -> T:
    """Register a function or a kernel under its name, as a launcher of the device whose package defines it."""
    return register(function.__module__, function)


def register(module: str, function: T) -> T:
    """``launcher`` for a function made elsewhere on behalf of ``module``."""
    device, name = module.removeprefix(PACKAGE).partition(".")[0], function.__name__
    namespace = vars(launchers_of(device))
    if name in namespace:
        raise ValueError(f"{module}: {device} already has a launcher called {name}")
    namespace[name] = function
    return function


def launchers_of(device: str) -> SimpleNamespace:
    """The launchers that a device's modules have registered so far, as attributes."""
    return _namespaces.setdefault(device, SimpleNamespace())


def load_launchers(package: str) -> SimpleNamespace:
    """Import every module of a device's package, which calls this, and return the launchers that they register."""
    for module in pkgutil.walk_packages(sys.modules[package].__path__, f"{package}."):
        importlib.import_module(module.name)
    return launchers_of(package.removeprefix(PACKAGE))
