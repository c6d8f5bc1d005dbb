"""The interface of a device's convolution algorithms, and the choice of one for each direction."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from numbacnn.geometry import ConvGeometry, PoolGeometry, Shape
from numbacnn.layers.bindings import Array


class FusedConv(NamedTuple):
    """A convolution that is computed in one step with the one whose output it reads."""

    w: Array
    b: Array | None
    g: ConvGeometry
    activation: str | None
    residual: Array | None


class ConvEpilogue(NamedTuple):
    """The operations that a convolution applies besides its sums, depending on the direction."""

    activation: str | None = None  # forward: the op of an activation of y, one of the algorithm's ``activations``
    residual: Array | None = None  # forward: added to y before the activation, which is then ReLU
    mask: Array | None = None  # input gradient: dx is 0 wherever this is 0 or less
    pool: PoolGeometry | None = None  # y is the output of this max-pool, or dy the gradient of its output,
    argmax: Array | None = None  # with this argmax, which forward writes unless it has no images
    shards: tuple[int, ...] = ()  # weight gradient: the sum over shards, first images and the number of all
    then: tuple[FusedConv, ...] = ()  # forward: y is the output of the last of these convolutions in a row

    @property
    def relu(self) -> bool:
        """Whether forward applies ReLU."""
        return self.activation == "relu"


class Scratch(Protocol):
    """A float32 buffer that an algorithm needs besides inputs and outputs."""

    @property
    def shape(self) -> Shape:
        """The shape for the batch size of the plan."""

    @property
    def prepared(self) -> bool:
        """Whether it holds weights in another layout, which stays valid until they change."""


Arrays = Mapping[str, Array]
DIRECT, LATENCY = "direct", "latency"
FLOPS_PER_BYTE = 8  # that a processor computes while it reads a byte from memory, about: 200 GFLOP/s and 25 GB/s
BYTES_PER_PASS = 100_000  # that it reads while its threads start and end a pass that fills a buffer: 4 µs


class ConvAlgorithm(Protocol):
    """One way to compute a convolution on a device: ``kernels.convolution.ConvAlgorithm`` describes the methods."""

    name: str
    family: str
    directions: tuple[str, ...]
    activations: frozenset[str]
    yields_to: str

    def runs(self, direction: str, g: ConvGeometry) -> bool:
        """Return whether the algorithm can run."""

    def applies(self, direction: str, g: ConvGeometry, pool: PoolGeometry | None) -> bool:
        """Return whether the algorithm can run and is preferred."""

    def spreads(self, g: ConvGeometry) -> bool:
        """Whether NaN and infinity reach outputs whose windows do not see them."""

    def scratch(
        self, direction: str, g: ConvGeometry, batch: int, pool: PoolGeometry | None = None
    ) -> Mapping[str, Scratch]:
        """Return the buffers of a direction by name."""

    def shards_at_once(self, g: ConvGeometry, batch: int, images: Sequence[int]) -> int:
        """Return how many shards ``weight_gradient`` can sum at once, from their images; 0 if it cannot."""

    def cost(self, direction: str, g: ConvGeometry, batch: int, pool: PoolGeometry | None = None) -> tuple[int, int]:
        """Return the floating-point operations of a direction, and its bytes."""

    def forward(
        self, y: Array, x: Array, w: Array, b: Array | None, scratch: Arrays, g: ConvGeometry, epilogue: ConvEpilogue
    ) -> None:
        """Write y."""

    def weight_gradient(
        self, dw: Array, x: Array, dy: Array, scratch: Arrays, g: ConvGeometry, epilogue: ConvEpilogue
    ) -> None:
        """Write dw."""

    def input_gradient(
        self, dx: Array, dy: Array, w: Array, scratch: Arrays, g: ConvGeometry, epilogue: ConvEpilogue
    ) -> None:
        """Write dx."""


def choose(
    algorithms: Sequence[ConvAlgorithm],
    direction: str,
    g: ConvGeometry,
    family: str = "auto",
    pool: PoolGeometry | None = None,
) -> ConvAlgorithm | None:
    """Return the algorithm for one direction of a convolution: the first that applies.

    A ``family`` other than "auto" restricts the choice to its members, the last of which runs if none is preferred; it
    is ignored if the device has no member. "latency" instead compares the preferred algorithms of all families by
    their time for one image. With a ``pool``, the algorithm must compute that too, and the family is ignored; None if
    no algorithm can, or if the family to which it yields, and which ``family`` admits, applies in all of its
    directions: both gradients read the same gradient, the pool's or its output's.
    """
    able = [algorithm for algorithm in algorithms if direction in algorithm.directions]
    if family == LATENCY and pool is None:
        return _fastest_for_one(able, direction, g)
    members = [algorithm for algorithm in able if pool is None and algorithm.family == family]
    fallback = members[-1] if members else None
    chosen = next((algorithm for algorithm in members or able if algorithm.applies(direction, g, pool)), fallback)
    if pool is None or chosen is None or family == DIRECT:
        return chosen
    others = [algorithm for algorithm in able if algorithm.family == chosen.yields_to]
    yields = any(all(other.applies(each, g, None) for each in chosen.directions) for other in others)
    return None if yields else chosen


def _fastest_for_one(able: Sequence[ConvAlgorithm], direction: str, g: ConvGeometry) -> ConvAlgorithm:
    """Return the algorithm that takes the shortest time for one image, if its weights are not in cache.

    Weights that are transformed for Winograd's algorithm are up to four times as large: to read them, and in training
    to write them, can take longer than the multiplications that they save. Where the direct sum is preferred for any
    batch, it is for one image. The cost of all direct ones is that of the last: which of them runs depends on the
    processor's vectors, and the choice must not.
    """
    preferred = next(algorithm for algorithm in able if algorithm.applies(direction, g, None))
    if preferred.family == DIRECT:
        return preferred
    direct = next(
        algorithm for algorithm in able if algorithm.family == DIRECT and algorithm.applies(direction, g, None)
    )
    others = [algorithm for algorithm in able if algorithm.family != DIRECT and algorithm.runs(direction, g)]

    def bytes_in_time(algorithm: ConvAlgorithm) -> float:
        flops, moved = algorithm.cost(direction, g, 1)
        buffers = algorithm.scratch(direction, g, 1).values()
        passes = sum(not (buffer.prepared and direction == "forward") for buffer in buffers)
        return flops / FLOPS_PER_BYTE + moved + passes * BYTES_PER_PASS

    fastest = min((able[-1], *others), key=bytes_in_time)
    return direct if fastest is able[-1] else fastest
