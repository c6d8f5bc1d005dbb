"""Initial values of parameters, drawn from the model's seed and the parameter's name alone.

fan_in and fan_out are the numbers of inputs and outputs that a weight connects: R·S·C and R·S·K for convolution weights
R×S×C×K.
"""

import hashlib
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from numbacnn._checks import one_of
from numbacnn.geometry import Shape

Float32 = NDArray[np.float32]
Generator = np.random.Generator
CHUNK = 1 << 16  # numbers drawn at a time in float64, which need no more memory for large weights


def he_normal(shape: Shape, generator: Generator) -> Float32:
    """Draw normal values with deviation √(2 / fan_in), for layers before ReLU (He et al. 2015, section 2.2)."""
    return _normal(shape, generator, math.sqrt(2 / _fans(shape)[0]))


def he_uniform(shape: Shape, generator: Generator) -> Float32:
    """Draw uniform values in ±√(6 / fan_in), which have the deviation of ``he_normal``."""
    return _uniform(shape, generator, math.sqrt(6 / _fans(shape)[0]))


def glorot_uniform(shape: Shape, generator: Generator) -> Float32:
    """Draw uniform values in ±√(6 / (fan_in + fan_out)) (Glorot and Bengio 2010, equation 16)."""
    return _uniform(shape, generator, math.sqrt(6 / sum(_fans(shape))))


def glorot_normal(shape: Shape, generator: Generator) -> Float32:
    """Draw normal values with deviation √(2 / (fan_in + fan_out)) (Glorot and Bengio 2010, equation 12)."""
    return _normal(shape, generator, math.sqrt(2 / sum(_fans(shape))))


def zeros(shape: Shape, generator: Generator) -> Float32:
    """Return zeros."""
    return np.zeros(shape, np.float32)


def ones(shape: Shape, generator: Generator) -> Float32:
    """Return ones."""
    return np.ones(shape, np.float32)


def quarters(shape: Shape, generator: Generator) -> Float32:
    """Return 0.25 everywhere, the initial slopes of a PReLU (He et al. 2015, section 2.1)."""
    return np.full(shape, 0.25, np.float32)


AUTO = "auto"  # He normal before a ReLU-like activation, Glorot uniform elsewhere: the graph decides
INITIALIZERS: dict[str, Callable[[Shape, Generator], Float32]] = {
    function.__name__: function
    for function in (he_normal, he_uniform, glorot_uniform, glorot_normal, zeros, ones, quarters)
}


def check_initializer(name: str) -> str:
    """Return the name. Raises ArgumentError unless it is "auto" or that of an initializer."""
    return one_of(name, "initializer", [AUTO, *INITIALIZERS])


def initial_values(initializer: str, shape: Shape, seed: int, name: str) -> Float32:
    """Draw the values of parameter ``name`` in a model with this seed, whatever else the model holds."""
    key = hashlib.sha256(f"{seed}/{name}".encode()).digest()[:16]
    generator = np.random.Generator(np.random.Philox(key=np.frombuffer(key, np.uint64)))
    return INITIALIZERS[initializer](shape, generator)


def _fans(shape: Shape) -> tuple[int, int]:
    window = math.prod(shape[:-2])
    return window * shape[-2], window * shape[-1]


def _normal(shape: Shape, generator: Generator, deviation: float) -> Float32:
    return _drawn(shape, lambda count: generator.standard_normal(count) * deviation)


def _uniform(shape: Shape, generator: Generator, bound: float) -> Float32:
    return _drawn(shape, lambda count: generator.uniform(-bound, bound, count))


def _drawn(shape: Shape, draw: Callable[[int], NDArray[np.float64]]) -> Float32:
    values = np.empty(math.prod(shape), np.float32)
    for start in range(0, values.size, CHUNK):
        part = values[start : start + CHUNK]
        part[:] = draw(part.size)
    return values.reshape(shape)
