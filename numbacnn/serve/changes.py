"""Damage to a network, to see what depends on what: noise on weights, filters switched off, a covered image."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from numbacnn._checks import number, whole
from numbacnn.data.dataset import Images
from numbacnn.engine.graph import Graph
from numbacnn.errors import ArgumentError
from numbacnn.layers import Conv2DTranspose, Layer
from numbacnn.model import Model

MAX_NOISE = 5.0
MAX_OFF = 4096

Float32 = NDArray[np.float32]


class Changes(NamedTuple):
    """Changes of a model's weights.

    Attributes:
        noise: standard deviation of normal noise on every weight, relative to that of the weights in its array.
        off: layers, and (layer, filter), whose weights and biases are zero.
        seed: of the noise.
    """

    noise: float = 0.0
    off: frozenset[tuple[str, int | None]] = frozenset()
    seed: int = 0

    @classmethod
    def from_json(cls, form: object, graph: Graph) -> "Changes":
        """Read {"noise": 0.1, "seed": 0, "off": [["conv2d_1", 3], ["dense_1", null]]}.

        Raises ArgumentError if it has another form, or a layer or a filter does not exist.
        """
        if not isinstance(form, Mapping) or not set(form) <= {"noise", "seed", "off"}:
            raise ArgumentError('changes: pass an object with "noise", "seed" and "off"')
        noise = number(form.get("noise", 0), "noise", 0, MAX_NOISE)
        seed = whole(form.get("seed", 0), "seed", 0)
        off = form.get("off", [])
        if not isinstance(off, list) or len(off) > MAX_OFF:
            raise ArgumentError(f"off: pass a list of at most {MAX_OFF} pairs [layer, filter]")
        counts = {node.name: node.shape[-1] for node in graph.nodes if node.parameters}
        return cls(noise, frozenset(_filter(each, counts) for each in off), seed % (1 << 32))

    def apply(self, model: Model, arrays: Mapping[str, Float32]) -> None:
        """Write the changed ``arrays`` to the model's parameters."""
        random = np.random.default_rng(self.seed)
        changed = {}
        for name, array in arrays.items():
            noise = random.standard_normal(array.shape, np.float32)  # drawn always: more noise is the same, scaled
            changed[name] = array + self.noise * array.std() * noise
        nodes = {node.name: node for node in model.graph.nodes}
        for layer, index in self.off:
            for name, own in nodes[layer].parameters.items():
                _of_filter(changed[name], nodes[layer].layer, own, index)[...] = 0
        model.set_parameters(changed)


def _filter(pair: object, counts: Mapping[str, int]) -> tuple[str, int | None]:
    """Check a pair [layer, filter], where None stands for all filters."""
    if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[0], str) or pair[0] not in counts:
        raise ArgumentError("off: pass pairs [layer, filter] of layers with weights")
    layer, index = pair
    if index is not None and (type(index) is not int or not 0 <= index < counts[layer]):
        raise ArgumentError(f'off: layer "{layer}" has {counts[layer]} filters; pass a number from 0, or null for all')
    return layer, index


def _of_filter(array: Float32, layer: Layer, own: str, index: int | None) -> Float32:
    """Return a view of what belongs to a filter in a layer's parameter ``own``; of all of it if ``index`` is None."""
    if index is None:
        return array
    if isinstance(layer, Conv2DTranspose) and own == "weight":  # R×S×filters/groups×C
        group, position = divmod(index, layer.filters // layer.groups)
        inputs = array.shape[3] // layer.groups
        return array[:, :, position, group * inputs : (group + 1) * inputs]
    return array[..., index]


class Occlusion(NamedTuple):
    """A gray square over an image: its corner and its side, as fractions of height and width."""

    top: float
    left: float
    size: float

    @classmethod
    def from_json(cls, form: object) -> "Occlusion | None":
        """Read {"top": 0.2, "left": 0.3, "size": 0.25}; None stays None. Raises ArgumentError for another form."""
        if form is None:
            return None
        if not isinstance(form, Mapping) or set(form) != set(cls._fields):
            raise ArgumentError('occlusion: pass an object with "top", "left" and "size"')
        return cls(*(number(form[name], name, 0, 1) for name in cls._fields))

    def cover(self, images: Images) -> Images:
        """Return a copy of images (N, H, W, C), covered with the mean of their range."""
        height, width = images.shape[1:3]
        rows = slice(round(self.top * height), round((self.top + self.size) * height))
        columns = slice(round(self.left * width), round((self.left + self.size) * width))
        covered = images.copy()
        covered[:, rows, columns] = 128 if images.dtype == np.uint8 else (images.min() + images.max()) / 2
        return covered
