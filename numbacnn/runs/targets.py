"""Numbers to regress, which a run learns in units of their standard deviation, whatever units they have."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from numbacnn.data.dataset import Dataset
from numbacnn.errors import ArgumentError
from numbacnn.layers import Dense
from numbacnn.losses.base import Float64
from numbacnn.model import Model


@dataclass(frozen=True)
class TargetScale:
    """The mean and the standard deviation of each number, (k,)."""

    mean: Float64
    std: Float64

    @classmethod
    def of(cls, dataset: Dataset) -> "TargetScale":
        """Return the scale of the labels of a training set; the standard deviation of equal numbers is taken as 1."""
        numbers = np.asarray(dataset.labels, np.float64)
        std = numbers.std(axis=0)
        return cls(numbers.mean(axis=0), np.where(std == 0, 1.0, std))

    def standardized(self, dataset: Dataset) -> Dataset:
        """Return a data set whose labels are (labels − mean) / std."""
        return replace(dataset, labels=((dataset.labels - self.mean) / self.std).astype(np.float32))

    @contextmanager
    def in_units(self, model: Model) -> Iterator[None]:
        """Let a model, trained on standardized labels, return numbers in their units while the block runs."""
        names = head_of(model)
        w, b = (np.array(model.parameters[name]) for name in names)
        model.set_parameters(dict(zip(names, (w * self.std, b * self.std + self.mean), strict=True)))
        try:
            yield
        finally:
            model.set_parameters(dict(zip(names, (w, b), strict=True)))

    def standardize(self, model: Model) -> None:
        """Let a model that returns numbers in their units return standardized ones."""
        names = head_of(model)
        w, b = (np.array(model.parameters[name]) for name in names)
        model.set_parameters(dict(zip(names, (w / self.std, (b - self.mean) / self.std), strict=True)))


def head_of(model: Model) -> tuple[str, str]:
    """Return the names of the weight and bias of the dense layer at the end. Raises ArgumentError if there is none."""
    output = model.graph.outputs[0]
    layer, name = model.graph.layer_of(output), model.graph.names[output]
    if not isinstance(layer, Dense) or f"{name}.bias" not in model.parameters:
        last = "its input" if layer is None else type(layer).__name__
        raise ArgumentError(f"to regress, a network has to end in a dense layer with bias; this one ends in {last}")
    return f"{name}.weight", f"{name}.bias"
