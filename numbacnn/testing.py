"""Checking a layer's gradients: for custom layers, and the package's own."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from numbacnn._checks import shown, whole
from numbacnn._checks.names import checks_call
from numbacnn.engine.graph import Input
from numbacnn.engine.locks import engine_lock
from numbacnn.errors import ArgumentError, GradientError
from numbacnn.layers import Layer
from numbacnn.model import Model

Array = NDArray[np.float32]
STEP = 2.0**-5  # of a fourth-order difference, whose own error is of the order of STEP⁴, and rounding's of eps / STEP
NOISE = 8  # roughness up to this multiple of the median is rounding


class _Difference(NamedTuple):
    """Gradients with respect to some elements of an array, by central difference and by backward."""

    indices: NDArray[np.intp]
    by_difference: NDArray[np.float64]
    by_backward: NDArray[np.float64]
    smooth: NDArray[np.bool_]  # False at a kink, where there is no derivative


@checks_call
def check_gradients(
    layer: Layer,
    input_shape: Sequence[int] | Sequence[Sequence[int]],
    *,
    batch: int = 2,
    samples: int = 64,
    tolerance: float = 1e-3,
    seed: int = 0,
) -> Mapping[str, float]:
    """Compare the gradients of a layer with central differences of its forward, as the engine runs it.

    ``input_shape`` is that of one image, or a list of them for a layer with several inputs. Up to ``samples`` elements
    of each input and parameter are moved one by one around random values, drawn from ``seed``; those at a kink, where
    there is no derivative, are left out. Return the error of each gradient relative to its norm by name: "x" (or
    "x[0]", "x[1]"), then the parameters; float32 gives about 1e-5. Raises GradientError, with the gradient's name, if
    an error exceeds ``tolerance``, a value is not finite, or backward reads an input or output that the layer does not
    declare (``reads_x``, ``reads_y``).
    """
    if not isinstance(layer, Layer):
        raise ArgumentError(f"check_gradients: {shown(layer)} is not a layer; pass one, such as nc.Conv2D(8, 3)")
    check = _Check(layer, input_shape, whole(batch, "batch"), seed)
    errors = {}
    with engine_lock:
        check.backward()
        for name in check.arrays:
            difference = check.difference(name, whole(samples, "samples"))
            errors[name] = check.error(name, difference, tolerance)
    return errors


class _Check:
    def __init__(
        self, layer: Layer, input_shape: Sequence[int] | Sequence[Sequence[int]], batch: int, seed: int
    ) -> None:
        several = isinstance(input_shape, Sequence) and all(isinstance(shape, Sequence) for shape in input_shape)
        inputs = [Input(shape) for shape in (input_shape if several else [input_shape])]  # type: ignore[arg-type]
        self.layer, self.batch = layer, batch
        self.model = Model(inputs, [layer(inputs)], seed=seed)
        self.executor = self.model.executor(batch, training=True, input_gradient=True)
        self.bound = self.executor.bind(batch)
        self.generator = np.random.default_rng(seed)
        graph = self.model.graph
        xs = {f"x[{i}]" if several else "x": self._normal((batch, *s)) for i, s in enumerate(graph.input_shapes)}
        (node,) = graph.nodes
        self.output_shape = (batch, *node.shape)
        self.parameters = {own: name for name, own in node.parameters.items()}
        values = {  # away from the initial zeros and ones
            own: self.model.parameters[name] + self._normal(self.model.parameters[name].shape) / 10
            for own, name in self.parameters.items()
        }
        self.inputs, self.arrays = list(xs), xs | values
        self.dy = self._normal(self.output_shape)
        self.gradients: dict[str, Array] = {}

    def _normal(self, shape: Sequence[int]) -> Array:
        return self.generator.standard_normal(shape).astype(np.float32)

    def forward(self) -> NDArray[np.float64]:
        """Return the output for the current ``arrays``."""
        self.model.store.set({self.parameters[name]: self.arrays[name] for name in self.parameters})
        for view in [*self.bound.outputs, *self.bound.inputs]:
            view.fill(np.nan)
        for view, name in zip(self.bound.inputs, self.inputs, strict=True):
            np.copyto(view, self.arrays[name].reshape(view.shape))
        self.model.store.set_random(0, 0)  # the same dropout mask every time
        self.executor.forward(self.batch)
        return self.bound.outputs[0].astype(np.float64).reshape(self.output_shape)

    def backward(self) -> None:
        """Fill ``gradients``. Everything that backward must write or must not read is NaN before."""
        self._check_finite(self.forward(), "forward gives {value} at {index}; it must write every element of t.y")
        if not self.layer.reads_x:
            for view in self.bound.inputs:
                view.fill(np.nan)
        if not self.layer.reads_y:
            self.bound.outputs[0].fill(np.nan)
        for gradient in self.bound.input_gradients:
            if gradient is not None:
                gradient.fill(np.nan)
        self.model.store.gradients.fill(np.nan)
        dy = self.bound.output_gradients[0]
        np.copyto(dy, self.dy.reshape(dy.shape))
        self.executor.backward(self.batch)
        undeclared = [
            f"t.{flag[-1]} without {flag}" for flag in ("reads_x", "reads_y") if not getattr(self.layer, flag)
        ]
        remedy = "backward must write all of it" + (", and not read " + " or ".join(undeclared)) * bool(undeclared)
        found = [*self.bound.input_gradients, *self.model.gradients.values()]
        for (name, array), gradient in zip(self.arrays.items(), found, strict=True):
            self.gradients[name] = np.array(gradient).reshape(array.shape)
            self._check_finite(self.gradients[name], f"the gradient of {name} is {{value}} at {{index}}; {remedy}")

    def difference(self, name: str, samples: int) -> _Difference:
        """Differentiate Σ dy·y by some elements of an array, from its values at −2, −1, 0, 1 and 2 steps."""
        array = self.arrays[name]
        indices = np.sort(self.generator.permutation(array.size)[:samples])
        middle = self.forward()
        slopes, roughness = np.zeros(len(indices)), np.zeros(len(indices))
        for i, index in enumerate(indices):
            kept = array.flat[index]
            moved = []
            for steps in (-2, -1, 1, 2):
                array.flat[index] = kept + steps * STEP
                moved.append(np.sum(self.dy * (self.forward() - middle)))
            array.flat[index] = kept
            slopes[i] = (8 * (moved[2] - moved[1]) - (moved[3] - moved[0])) / (12 * STEP)
            # Both are about 1e-5 except at a kink; each alone misses kinks at some distances.
            fourth = moved[0] - 4 * moved[1] - 4 * moved[2] + moved[3]
            slopes_apart = moved[3] - moved[0] - 2 * (moved[2] - moved[1])
            roughness[i] = (abs(fourth) + abs(slopes_apart)) / STEP
        size = np.sqrt(np.mean(slopes**2))
        smooth = roughness <= 1e-3 * size + NOISE * np.median(roughness)
        if not smooth.any():  # at least half of them are, except with NaN
            raise GradientError(f"{type(self.layer).__name__}: forward is not finite where {name} moves by {2 * STEP}")
        return _Difference(indices, slopes, self.gradients[name].flat[indices].astype(np.float64), smooth)

    def error(self, name: str, found: _Difference, tolerance: float) -> float:
        """Return the relative error of a gradient. Raises GradientError if it exceeds ``tolerance``."""
        wrong = np.where(found.smooth, np.abs(found.by_backward - found.by_difference), 0)
        norm = max(np.linalg.norm(values[found.smooth]) for values in (found.by_backward, found.by_difference))
        error = float(np.linalg.norm(wrong) / norm) if norm else 0.0
        if not error <= tolerance:
            worst = int(wrong.argmax())
            index = np.unravel_index(found.indices[worst], self.arrays[name].shape)
            raise GradientError(
                f"{type(self.layer).__name__}: the gradient of {name} is off by {error:.2g} of its norm; most at "
                f"{tuple(map(int, index))}, where backward gives {found.by_backward[worst]:.6g} "
                f"and a central difference {found.by_difference[worst]:.6g}"
            )
        return error

    def _check_finite(self, array: NDArray[np.floating], message: str) -> None:
        wrong = np.argwhere(~np.isfinite(array))
        if len(wrong):
            index = tuple(map(int, wrong[0]))
            raise GradientError(f"{type(self.layer).__name__}: {message.format(value=array[index], index=index)}")
