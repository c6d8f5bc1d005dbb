"""The description of an op for the tests. Each op has one file in tests/ops, which gives it every test over all cases.

The file defines ``OP``: the layer, cases picked by hand, each with its reason, a function that draws more, and the twin
in PyTorch. ``cases.py`` finds the files; tests in them are for properties of that op only, such as ties of a maximum.
"""

import random
import zlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from numbacnn import layers as nl

DRAWN = 50  # cases of each drawing function


class Case(NamedTuple):
    """A layer, the shapes of its inputs for one image, a batch, and what is done to random inputs."""

    name: str
    layer: Callable[[], nl.Layer]
    shapes: tuple[tuple[int, ...], ...]
    batch: int
    domain: Callable[[np.ndarray], np.ndarray] = np.asarray

    def __str__(self) -> str:
        return (
            f"{self.name}, input {' and '.join('x'.join(map(str, shape)) for shape in self.shapes)}, batch {self.batch}"
        )

    @property
    def generator(self) -> np.random.Generator:
        """Random numbers of this case alone, always the same."""
        return np.random.default_rng(zlib.crc32(str(self).encode()))

    def inputs(self, batch: int | None = None) -> list[np.ndarray]:
        """Random float32 inputs: no two are equal in practice, and none is at a kink."""
        generator = self.generator
        return [self.domain(normal(generator, batch or self.batch, *shape)) for shape in self.shapes]


class Limits(NamedTuple):
    """An activation's limits at −∞ and ∞, and those of its slope."""

    layer: Callable[[], nl.Layer]
    low: float
    high: float
    low_slope: float
    high_slope: float


class Op(NamedTuple):
    """An op.

    Attributes:
        layer: its class.
        pytorch: its twin, a function of the layer, its geometry, then inputs and parameters as tensors.
        draw: a function that draws a case from a ``random.Random``, or several such functions by name.
        picked: cases picked by hand.
        limits: the limits of an activation.
    """

    layer: type[nl.Layer]
    pytorch: Callable
    draw: Callable[[random.Random], Case] | dict[str, Callable[[random.Random], Case]]
    picked: Sequence[Case] = ()
    limits: Sequence[Limits] = ()

    def drawn(self) -> list[Case]:
        """``DRAWN`` different cases of each drawing function, the same on every machine."""
        draws = self.draw if isinstance(self.draw, dict) else {self.layer.op: self.draw}
        return [case for name, draw_one in draws.items() for case in _draw(name, draw_one)]


def _draw(name, draw_one):
    draw, found = random.Random(zlib.crc32(name.encode())), {}
    while len(found) < DRAWN:
        case = draw_one(draw)
        try:
            case.layer().output_shape(case.shapes)
        except ValueError:  # an impossible geometry: "same" pads as it must, and dilated windows are large
            continue
        found[str(case)] = case
    return list(found.values())


def normal(generator, *shape):
    return generator.standard_normal(shape).astype(np.float32)


def case(layer, reason, shapes, batch, *arguments, **options):
    """Make a case for ``reason``: the layer with these arguments, on inputs of these shapes, or of one shape."""
    shapes = (shapes,) if isinstance(shapes[0], int) else shapes
    return Case(f"{layer.op} {reason}", lambda: layer(*arguments, **options), shapes, batch)


# -- parts of drawing functions ---------------------------------------------------------------------------------------

CHANNELS = (1, 2, 3, 5, 6, 7, 9, 13, 17, 19, 31, 33)  # 1 and 3 as images have them; none fills registers of 4, 8 or 16
BATCHES = (1, 1, 2, 3, 5)


def draw_axis(draw, largest=5):
    """Draw (size, window, stride) of an axis; the window fits."""
    window = draw.randint(1, largest)
    return draw.randint(window, 12), window, draw.choice((1, 1, 2, 3, largest + 1))


def draw_padding(draw, largest):
    def side():
        return draw.randint(0, largest)

    choices = ["valid", "same", side(), (side(), side()), ((side(), side()), (side(), side()))]
    return draw.choice(choices)


def draw_image(draw):
    return draw.randint(1, 9), draw.randint(1, 9), draw.choice(CHANNELS)


def draw_shape(draw):
    """Draw the shape of features or of an image."""
    if draw.random() < 0.3:
        return (draw.randint(1, 70),)
    return draw_image(draw)


def describe(window, options):
    """Describe a window and options in a few words."""
    words = [f"{name} {value}" if value is not True else name for name, value in options.items() if value is not False]
    return f"{window[0]}x{window[1]} " + ", ".join(words).replace("(", "[").replace(")", "]").replace(", ", " ")


def of_any_shape(layer):
    """Return a function that draws cases of a layer without arguments, for any shape."""
    return lambda draw: Case(layer.op, layer, (draw_shape(draw),), draw.choice(BATCHES))


def of_images(layer):
    """Return a function that draws cases of a layer without arguments, for images."""
    return lambda draw: Case(layer.op, layer, (draw_image(draw),), draw.choice(BATCHES))


def with_a_number(layer):
    """Return a function that draws cases of an activation that takes one number."""

    def draw_one(draw):
        number = draw.choice((0.01, 0.2, 0.5, 1.0, 1.5))
        return Case(f"{layer.op} {number}", lambda: layer(number), (draw_shape(draw),), draw.choice(BATCHES))

    return draw_one


def with_a_rate(layer, draw_input):
    """Return a function that draws cases of a dropout."""

    def draw_one(draw):
        rate = draw.choice((0.1, 0.25, 0.5, 0.8))
        return Case(f"{layer.op} {rate}", lambda: layer(rate), (draw_input(draw),), draw.choice(BATCHES))

    return draw_one


def to_any_size(layer):
    """Return a function that draws cases of an adaptive pool."""

    def draw_one(draw):
        size = draw.randint(1, 9), draw.randint(1, 9)
        name = f"{layer.op} to {size[0]}x{size[1]}"
        return Case(name, lambda: layer(size), (draw_image(draw),), draw.choice(BATCHES))

    return draw_one
