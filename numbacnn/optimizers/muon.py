"""Muon: orthogonalized momentum of matrices."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod, sqrt
from typing import Any, ClassVar

from numbacnn._checks import flag, number, whole
from numbacnn.engine.parameters import Parameters
from numbacnn.errors import ArgumentError
from numbacnn.geometry import Shape
from numbacnn.layers.bindings import Kernels, Sizes
from numbacnn.optimizers.adam import AdamW
from numbacnn.optimizers.base import Float32, Float64, Optimizer, Segment, Tensors

COEFFICIENTS = 3.4445, -4.7750, 2.0315  # of the quintic, chosen for its slope at 0 (Jordan 2024)
MIN_NORM = 1e-7
MAX_ITERATIONS = 100


@dataclass(eq=False)
class Muon(Optimizer):
    """Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon): steps along the orthogonalized momentum.

    For a matrix W: M = μ·M + (1 − μ)·dW; O = the nearest orthogonal matrix, approximately, to M, or with ``nesterov``
    to (1 − μ)·dW + μ·M, by ``iterations`` of Newton-Schulz; W = (1 − lr·weight_decay)·W − lr·√max(1, out / in)·O.
    Convolution weights R×S×C×K are matrices R·S·C × K. All as in PyTorch, but in float32 instead of bfloat16.

    ``others`` updates everything else: biases, scales, and matrices of groups with ``orthogonalize=False``, such as
    the last layer's: ``groups=[nc.ParamGroup("dense_3.*", orthogonalize=False)]``. By default it is ``AdamW(0.001)``.
    """

    name: ClassVar[str] = "muon"
    by_array: ClassVar[bool] = True

    learning_rate: float = 0.02
    momentum: float = 0.95
    nesterov: bool = True
    weight_decay: float = 0.0
    iterations: int = 5
    orthogonalize: bool = True
    others: AdamW | None = None

    def __post_init__(self) -> None:
        self.nesterov = flag(self.nesterov, "nesterov")
        self.momentum = number(self.momentum, "momentum", 0, 1, below=True)
        self.weight_decay = number(self.weight_decay, "weight_decay", 0)
        self.orthogonalize = flag(self.orthogonalize, "orthogonalize")
        self.iterations = whole(self.iterations, "iterations", maximum=MAX_ITERATIONS)
        self.others = AdamW() if self.others is None else self.others
        if not isinstance(self.others, AdamW) or self.others.groups or self.others.clip_norm or self.others.clip_value:
            raise ArgumentError("others: pass an AdamW without groups and clipping; those are arguments of Muon")
        self._buffers: dict[Shape, dict[str, Float32]] = {}
        super().__post_init__()

    @property
    def slot_names(self) -> tuple[str, ...]:
        """The momentum, or AdamW's running mean of the gradient, and its running mean of the square."""
        return ("mean", "square")

    @property
    def is_replayable(self) -> bool:
        """Whether a GPU can replay the launches of an update, those of ``others`` included."""
        others = [one.others for one in self.by_group() if isinstance(one, Muon)]
        return self.only_launches and all(other is not None and other.only_launches for other in others)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_buffers": {}}

    def _allocate_scratch(self, store: Parameters) -> None:
        """Allocate buffers for the largest matrix, which all matrices share."""
        matrices = {segment.shape for segment in self._segments if len(segment.shape) > 1}
        shapes = {matrix: _buffer_shapes(matrix, store.device.sizes) for matrix in matrices}
        sizes: dict[str, int] = {}
        for buffers in shapes.values():
            sizes |= {name: max(sizes.get(name, 0), prod(shape)) for name, shape in buffers.items()}
        memory = {name: store.device.zeros(size) for name, size in sizes.items()}
        self._buffers = {
            matrix: {name: memory[name][: prod(shape)].reshape(shape) for name, shape in buffers.items()}
            for matrix, buffers in shapes.items()
        }

    def _scratch(self, segment: Segment) -> Mapping[str, Float32]:
        return self._buffers.get(segment.shape, {})

    def step_scalars(self, step: int, scale: float) -> tuple[float, ...]:
        """Return those of ``others``, and the learning rate."""
        assert self.others is not None
        return *self.others.step_scalars(step, scale), self.learning_rate * scale

    def _update(self, kernels: Kernels, t: Tensors, scalars: Float64) -> None:
        if len(t.shape) < 2 or not self.orthogonalize:
            assert self.others is not None
            self.others._update(kernels, t, scalars)
            return
        x = t.x.reshape(-1)
        kernels.muon_momentum(x, t.mean, t.dw, scalars, self.momentum, self.momentum if self.nesterov else 1.0)
        kernels.normalize_in_place(x, t.partial, MIN_NORM)
        direction = orthogonalize(kernels, t, self.iterations)
        kernels.muon_update(t.w, direction.reshape(-1), scalars, self.weight_decay, _widening(direction))


def _widening(direction: Float32) -> float:
    """Return √max(1, out / in)."""
    rows, columns = direction.shape
    return sqrt(max(1.0, columns / rows))


def orthogonalize(kernels: Kernels, t: Tensors, iterations: int) -> Float32:
    """Iterate X = a·X + (b·A + c·A²)·X with A = X·Xᵀ, which brings all singular values from 0 to 1 close to 1.

    ``t.x`` holds X, with ‖X‖ ≤ 1; for a tall X, the smaller A = Xᵀ·X is applied from the right. The products are those
    of dense layers, whose bits do not depend on the number of threads. The result is ``t.x`` or ``t.y``.
    """
    a, b, c = COEFFICIENTS
    x, y, gram, square = t.x, t.y, t.gram, t.square_gram
    tall = len(x) > x.shape[1]
    for _ in range(iterations):
        if tall:
            kernels.dense_weight_gradient(gram, _images(x), _images(x))
        else:
            kernels.dense_input_gradient(_images(gram), _images(x), x, t.packed_gram)
        kernels.dense_forward(_images(square), _images(gram), gram, None, t.packed_square)
        kernels.blend_in_place(square.reshape(-1), gram.reshape(-1), c, b)
        if tall:
            kernels.dense_forward(_images(y), _images(x), square, None, t.packed)
        else:
            kernels.dense_forward(_images(y), _images(square), x, None, t.packed)
        kernels.blend_in_place(y.reshape(-1), x.reshape(-1), 1.0, a)
        x, y = y, x
    return x


def _images(x: Float32) -> Float32:
    """Return rows as the images of a batch, N×1×1×C."""
    return x.reshape(len(x), 1, 1, -1)


def _buffer_shapes(shape: Shape, sizes: Sizes) -> dict[str, Shape]:
    """Return the shapes of the buffers of ``orthogonalize`` for an array whose last axis is the columns."""
    rows, columns = prod(shape[:-1]), shape[-1]
    small, right = min(rows, columns), (columns, columns) if rows > columns else (rows, columns)
    return {
        "x": (rows, columns),
        "y": (rows, columns),
        "gram": (small, small),
        "square_gram": (small, small),
        "packed_gram": sizes.dense_packed_gradient_shape(0 if rows > columns else rows, columns),  # unused if tall
        "packed_square": sizes.dense_packed_weights_shape(small, small),
        "packed": sizes.dense_packed_weights_shape(*right),
    }
