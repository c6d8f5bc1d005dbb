"""Holding a layer's backward against its forward: for layers of a user's own, and the ones that are here."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from numbacnn._checks import whole
from numbacnn.engine.graph import Input
from numbacnn.engine.locks import engine_lock
from numbacnn.errors import GradientError
from numbacnn.layers import Layer
from numbacnn.model import Model

Array = NDArray[np.float32]
STEP = 2.0**-5  # of a difference of fourth order: its own error is of the order of STEP⁴, that of rounding eps / STEP
NOISE = 8  # times the median roughness is still rounding


class _Difference(NamedTuple):
    """Gradients of one array at some of its elements: by difference, by backward, and where the difference is true."""

    places: NDArray[np.intp]
    by_difference: NDArray[np.float64]
    by_backward: NDArray[np.float64]
    smooth: NDArray[np.bool_]


def check_gradients(
    layer: Layer,
    input_shape: Sequence[int] | Sequence[Sequence[int]],
    *,
    batch: int = 2,
    samples: int = 64,
    tolerance: float = 1e-3,
    seed: int = 0,
) -> Mapping[str, float]:
    """Holds the gradients of a layer against central differences of its forward, as the engine runs it.

    ``input_shape`` is that of one image, or a list of them for a layer of several inputs. Up to ``samples`` elements of
    each input and parameter are moved one by one around random values, drawn from ``seed``; those at a kink, where
    there is no derivative, are left out. Returns the error of each gradient relative to its norm: "x" (or "x[0]",
    "x[1]"), then the parameters by name; some 1e-5 is what float32 gives. Raises GradientError, which names the
    gradient, where an error exceeds ``tolerance``, a value is not finite, or backward reads an input or output that the
    layer does not declare (``reads_x``, ``reads_y``).
    """
    check = _Check(layer, input_shape, whole(batch, "batch"), seed)
    errors = {}
    with engine_lock:
        check.backward()
        for name in check.arrays:
            difference = check.difference(name, whole(samples, "samples"))
            errors[name] = check.error(name, difference, tolerance)
    return errors


class _Check:
    def __init__(self, layer: Layer, input_shape: Sequence[Any], batch: int, seed: int) -> None:
        several = isinstance(input_shape, Sequence) and all(isinstance(shape, Sequence) for shape in input_shape)
        inputs = [Input(shape) for shape in (input_shape if several else [input_shape])]
        self.layer, self.batch = layer, batch
        self.model = Model(inputs, [layer(inputs)], seed=seed)
        self.executor = self.model.executor(batch, training=True, input_gradient=True)
        self.binding = self.executor.bind(batch)
        self.draw = np.random.default_rng(seed)
        shapes = self.model.graph.input_shapes
        xs = {f"x[{i}]" if several else "x": self._normal((batch, *shape)) for i, shape in enumerate(shapes)}
        (node,) = self.model.graph.nodes
        self.output_shape = (batch, *node.shape)
        self.parameters = {name.removeprefix(f"{node.name}."): name for name in self.model.parameters}
        values = {
            short: array + self._normal(array.shape) / 10  # none at its initial zero or one
            for short, array in zip(self.parameters, self.model.parameters.values(), strict=True)
        }
        self.inputs, self.arrays = list(xs), xs | values
        self.dy = self._normal(self.output_shape)
        self.gradients: dict[str, Array] = {}

    def _normal(self, shape: Sequence[int]) -> Array:
        return self.draw.standard_normal(shape).astype(np.float32)

    def forward(self) -> NDArray[np.float64]:
        """The output for ``arrays`` as they are."""
        self.model.store.set({self.parameters[name]: self.arrays[name] for name in self.parameters})
        for view in [*self.binding.outputs, *self.binding.inputs]:
            view.fill(np.nan)
        for view, name in zip(self.binding.inputs, self.inputs, strict=True):
            np.copyto(view, self.arrays[name].reshape(view.shape))
        self.model.store.set_random(0, 0)  # the same mask every time
        self.executor.forward(self.batch)
        return self.binding.outputs[0].astype(np.float64).reshape(self.output_shape)

    def backward(self) -> None:
        """Fills ``gradients``. What backward should write, and what it should not read, is NaN before."""
        self._refuse(self.forward(), "forward gives {value} at {place}; it must write every element of t.y")
        if not self.layer.reads_x:
            for view in self.binding.inputs:
                view.fill(np.nan)
        if not self.layer.reads_y:
            self.binding.outputs[0].fill(np.nan)
        for gradient in self.binding.input_gradients:
            if gradient is not None:
                gradient.fill(np.nan)
        self.model.store.gradients.fill(np.nan)
        dy = self.binding.output_gradients[0]
        np.copyto(dy, self.dy.reshape(dy.shape))
        self.executor.backward(self.batch)
        undeclared = [
            f"t.{flag[-1]} without {flag}" for flag in ("reads_x", "reads_y") if not getattr(self.layer, flag)
        ]
        remedy = "backward must write all of it" + (", and not read " + " or ".join(undeclared)) * bool(undeclared)
        found = [*self.binding.input_gradients, *self.model.gradients.values()]
        for (name, array), gradient in zip(self.arrays.items(), found, strict=True):
            self.gradients[name] = np.array(gradient).reshape(array.shape)
            self._refuse(self.gradients[name], f"the gradient of {name} is {{value}} at {{place}}; {remedy}")

    def difference(self, name: str, samples: int) -> _Difference:
        """Derivatives of Σ dy·y by some elements of an array, from the values at −2, −1, 0, 1 and 2 steps."""
        array = self.arrays[name]
        places = np.sort(self.draw.permutation(array.size)[:samples])
        middle = self.forward()
        slopes, roughness = np.zeros(len(places)), np.zeros(len(places))
        for i, place in enumerate(places):
            kept = array.flat[place]
            moved = []
            for steps in (-2, -1, 1, 2):
                array.flat[place] = kept + steps * STEP
                moved.append(np.sum(self.dy * (self.forward() - middle)))
            array.flat[place] = kept
            slopes[i] = (8 * (moved[2] - moved[1]) - (moved[3] - moved[0])) / (12 * STEP)
            # Both are some 1e-5 but at a kink; each alone misses kinks at some distance.
            fourth = moved[0] - 4 * moved[1] - 4 * moved[2] + moved[3]
            slopes_apart = moved[3] - moved[0] - 2 * (moved[2] - moved[1])
            roughness[i] = (abs(fourth) + abs(slopes_apart)) / STEP
        size = np.sqrt(np.mean(slopes**2))
        smooth = roughness <= 1e-3 * size + NOISE * np.median(roughness)
        if not smooth.any():  # at least half are, but for NaN
            raise GradientError(f"{type(self.layer).__name__}: forward is not finite where {name} moves by {2 * STEP}")
        return _Difference(places, slopes, self.gradients[name].flat[places].astype(np.float64), smooth)

    def error(self, name: str, found: _Difference, tolerance: float) -> float:
        """The relative error of a gradient; GradientError where it is more than ``tolerance``."""
        wrong = np.where(found.smooth, np.abs(found.by_backward - found.by_difference), 0)
        norm = max(np.linalg.norm(values[found.smooth]) for values in (found.by_backward, found.by_difference))
        error = float(np.linalg.norm(wrong) / norm) if norm else 0.0
        if not error <= tolerance:
            worst = int(wrong.argmax())
            place = np.unravel_index(found.places[worst], self.arrays[name].shape)
            raise GradientError(
                f"{type(self.layer).__name__}: the gradient of {name} is off by {error:.2g} of its norm; most at "
                f"{tuple(map(int, place))}, where backward gives {found.by_backward[worst]:.6g} "
                f"and a central difference {found.by_difference[worst]:.6g}"
            )
        return error

    def _refuse(self, array: NDArray[Any], told: str) -> None:
        """GradientError where the array is not finite."""
        wrong = np.argwhere(~np.isfinite(array))
        if len(wrong):
            place = tuple(map(int, wrong[0]))
            raise GradientError(f"{type(self.layer).__name__}: {told.format(value=array[place], place=place)}")
