"""Initial values of parameters: He and Glorot, from a seed and the parameter's name alone.

fan_in and fan_out count the inputs and outputs that one weight meets: for convolution weights R×S×C×K, R·S·C and R·S·K.
"""

import hashlib
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from numbacnn._checks import one_of
from numbacnn.geometry import Shape

Float32 = NDArray[np.float32]
DRAWN_AT_ONCE = 1 << 16


def he_normal(shape: Shape, generator: np.random.Generator) -> Float32:
    """Normal with deviation √(2 / fan_in), for layers before ReLU-like activations (He et al. 2015, section 2.2)."""
    return _normal(shape, generator, math.sqrt(2 / _fans(shape)[0]))


def he_uniform(shape: Shape, generator: np.random.Generator) -> Float32:
    """Uniform in ±√(6 / fan_in), of the same deviation as ``he_normal``."""
    return _uniform(shape, generator, math.sqrt(6 / _fans(shape)[0]))


def glorot_uniform(shape: Shape, generator: np.random.Generator) -> Float32:
    """Uniform in ±√(6 / (fan_in + fan_out)) (Glorot and Bengio 2010, equation 16)."""
    return _uniform(shape, generator, math.sqrt(6 / sum(_fans(shape))))


def glorot_normal(shape: Shape, generator: np.random.Generator) -> Float32:
    """Normal with deviation √(2 / (fan_in + fan_out)) (Glorot and Bengio 2010, equation 12)."""
    return _normal(shape, generator, math.sqrt(2 / sum(_fans(shape))))


def zeros(shape: Shape, generator: np.random.Generator) -> Float32:
    """Zeros."""
    return np.zeros(shape, np.float32)


def ones(shape: Shape, generator: np.random.Generator) -> Float32:
    """Ones."""
    return np.ones(shape, np.float32)


def quarters(shape: Shape, generator: np.random.Generator) -> Float32:
    """0.25 everywhere: the slopes of a PReLU (He et al. 2015, section 2.1)."""
    return np.full(shape, 0.25, np.float32)


AUTO = "auto"  # He normal before a ReLU-like activation, Glorot uniform elsewhere: the graph decides
Initializer = Callable[[Shape, np.random.Generator], Float32]
INITIALIZERS: dict[str, Initializer] = {
    function.__name__: function
    for function in (he_normal, he_uniform, glorot_uniform, glorot_normal, zeros, ones, quarters)
}


def check_initializer(name: str) -> str:
    """Return the name. Raises ArgumentError unless it is "auto" or that of an initializer."""
    return one_of(name, "initializer", [AUTO, *INITIALIZERS])


def initial_values(initializer: str, shape: Shape, seed: int, name: str) -> Float32:
    """Values of the parameter ``name`` of a model with this seed: the same whatever else the model holds."""
    key = hashlib.sha256(f"{seed}/{name}".encode()).digest()[:16]
    generator = np.random.Generator(np.random.Philox(key=np.frombuffer(key, np.uint64)))
    return INITIALIZERS[initializer](shape, generator)


def _fans(shape: Shape) -> tuple[int, int]:
    window = math.prod(shape[:-2])
    return window * shape[-2], window * shape[-1]


def _normal(shape: Shape, generator: np.random.Generator, deviation: float) -> Float32:
    return _drawn(shape, lambda count: generator.standard_normal(count) * deviation)


def _uniform(shape: Shape, generator: np.random.Generator, bound: float) -> Float32:
    return _drawn(shape, lambda count: generator.uniform(-bound, bound, count))


def _drawn(shape: Shape, draw: Callable[[int], NDArray[np.float64]]) -> Float32:
    """Numbers in float32, drawn in float64 some at a time: large weights would need three times their memory."""
    values = np.empty(math.prod(shape), np.float32)
    for start in range(0, values.size, DRAWN_AT_ONCE):
        part = values[start : start + DRAWN_AT_ONCE]
        part[:] = draw(part.size)
    return values.reshape(shape)
