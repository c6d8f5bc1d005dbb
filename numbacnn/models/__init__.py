"""Architectures of the literature, built from the public layers."""

from collections.abc import Callable
from typing import Any

from numbacnn.model import Model
from numbacnn.models.lenet import lenet5
from numbacnn.models.simple import simple_cnn

MODELS: dict[str, Callable[..., Model]] = {function.__name__: function for function in (lenet5, simple_cnn)}


def make(name: str, **options: Any) -> Model:
    """The model called ``name``. Raises ArgumentError with the nearest name."""
    from numbacnn.names import choose

    return choose("model", name, MODELS)(**options)


__all__ = ["MODELS", "lenet5", "make", "simple_cnn"]
