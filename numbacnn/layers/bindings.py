"""The arrays and options of one step, which the engine passes to a layer with the kernels of its device."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from numbacnn.geometry import ConvGeometry, PoolGeometry

if TYPE_CHECKING:
    from numbacnn.layers.algorithms import ConvAlgorithm

Array = NDArray[np.float32]


class Kernels(Protocol):
    """The launchers of a device, by name: those of ``numbacnn.kernels.cpu``, or of another device."""

    def __getattr__(self, name: str) -> Callable[..., Any]: ...


class Sizes(Protocol):
    """The device's functions from geometry to the shapes of scratch buffers, by name: ``kernels.cpu.sizes``."""

    fuses: bool  # whether the device's kernels can compute several layers in one step
    SHARDS_AT_ONCE: int  # of a batch, in a kernel of dense layers, biases and batch normalization; 0 for none
    CONV_ALGORITHMS: "tuple[ConvAlgorithm, ...]"  # in order of preference

    def __hash__(self) -> int: ...

    def __getattr__(self, name: str) -> Callable[..., Any]: ...


class Norm(NamedTuple):
    """The arrays of a batch normalization that is folded into a layer's weights, each (k,), and its ``eps``."""

    weight: Array
    bias: Array
    running_mean: Array
    running_var: Array
    eps: float


@dataclass(eq=False, slots=True)
class Bindings:
    """The arrays and options of one step: N×H×W×C float32 views of the engine's memory, features N×1×1×C.

    Besides these fields there is an attribute for every parameter and its gradient (``weight``, ``d_weight``), every
    array of state, and every scratch buffer, by its name. A smaller batch uses ``t.name_of_scratch[:len(t.y)]``.
    """

    xs: list[Array]  # the inputs
    y: Array  # the output
    dy: Array  # its gradient; empty in forward
    dxs: list[Array | None]  # the gradients of the inputs; None for one that is not needed
    training: bool = False  # False in inference, and if the layer is frozen
    frozen: frozenset[str] = frozenset()  # parameters whose gradients are not needed, so that backward may skip them
    algorithms: "Mapping[str, ConvAlgorithm]" = field(default_factory=dict)  # the choice of ``Layer.algorithms``
    fused: str | None = None  # op of an activation that forward applies as it stores y, or whose gradient backward does
    norm: Norm | None = None  # of a batch normalization that forward applies to its output
    residual: Array | None = None  # added after that, before the activation
    then: "Sequence[tuple[Any, Bindings, ConvGeometry]]" = ()  # layers of convolutions that forward computes too
    pool: PoolGeometry | None = None  # of the max-pool whose output y is, or whose gradient dy is
    mask: Array | None = None  # x, if it is a ReLU's output and dx must be zero wherever it is not positive
    random: NDArray[np.uint64] | None = None  # the key (seed, step) of the numbers that the layer draws
    stream: int | np.uint64 = 0  # the layer's own number in it
    shards: tuple[int, ...] = ()  # first images and the number of all, if the layer adds shards of the batch
    batch_sums: NDArray[np.float64] | None = None  # of batch normalization over several shards of a batch
    arrays: dict[str, Array] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Array:
        try:
            return self.arrays[name]
        except KeyError:
            raise AttributeError(f"this step has no array {name!r}; it has {', '.join(self.arrays)}") from None

    def scratch(self, direction: str) -> dict[str, Array]:
        """Return the scratch of the algorithm for a direction, by its own names."""
        prefix = f"{direction}."
        return {name.removeprefix(prefix): array for name, array in self.arrays.items() if name.startswith(prefix)}

    @property
    def x(self) -> Array:
        """The first input."""
        return self.xs[0]

    @property
    def dx(self) -> Array | None:
        """The gradient of the first input, or None."""
        return self.dxs[0] if self.dxs else None
