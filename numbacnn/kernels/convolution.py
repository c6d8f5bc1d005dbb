"""The interface of a convolution algorithm, on any device: one object, for the directions that it computes."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from numbacnn.geometry import ConvGeometry, PoolGeometry, Shape

FORWARD, WEIGHT_GRADIENT, INPUT_GRADIENT = DIRECTIONS = "forward", "weight_gradient", "input_gradient"


class Scratch(NamedTuple):
    """The shape of a float32 buffer that an algorithm needs besides inputs and outputs.

    ``prepared`` buffers hold weights in another layout (``recording.prepare``), which stays valid until they change.
    """

    shape: Shape
    prepared: bool = False


class Cost(NamedTuple):
    """Floating-point operations, a multiply-add counted as two, and bytes."""

    flops: int
    bytes: int

    def __add__(self, other: object) -> "Cost":
        assert isinstance(other, Cost)
        return Cost(self.flops + other.flops, self.bytes + other.bytes)


class ConvAlgorithm:
    """One way to compute a convolution, in some or all of its ``directions``.

    A device lists its algorithms in order of preference, and the first that applies to a geometry runs; the last one
    applies to all. ``family`` is the value of ``Conv2D(algorithm=…)`` that admits the algorithm. For each of its
    directions, a subclass has a method that launches kernels:

    - ``forward(y, x, w, b, scratch, g, epilogue)``:
      y[n,p,q,k] = b[k] + Σ_rsc x[n, p·stride + r·dilation, q·stride + s·dilation, c] · w[r,s,c,k]
    - ``weight_gradient(dw, x, dy, scratch, g, epilogue)``:
      dw[r,s,c,k] = Σ_npq x[n, p·stride + r·dilation, q·stride + s·dilation, c] · dy[n,p,q,k]
    - ``input_gradient(dx, dy, w, scratch, g, epilogue)``:
      dx[n,h,w,c] = Σ_rsk dy[n,p,q,k] · w[r,s,c,k] over p·stride + r·dilation = h + pad, and likewise q

    x, dx: N×H×W×C in a halo of zeros (``g.input_halo``); y, dy: N×P×Q×K, dy in ``g.gradient_halo``; w, dw:
    R×S×C/groups×K; b: K or None; ``scratch``: the arrays of that method, by name. ``epilogue``, a
    ``layers.algorithms.ConvEpilogue``, says what else to do; under a max-pool, y is the pool's output and dy its
    gradient.
    """

    name = ""
    family = "direct"
    directions: tuple[str, ...] = DIRECTIONS
    activations: frozenset[str] = frozenset({"relu"})  # ops that forward can apply as it stores y
    yields_to = ""  # the family that is faster where it applies in all directions, though without the max-pool

    def runs(self, direction: str, g: ConvGeometry) -> bool:
        """Whether the algorithm can run, though another may be preferred."""
        return self.applies(direction, g, None)

    def applies(self, direction: str, g: ConvGeometry, pool: PoolGeometry | None) -> bool:
        """Whether the algorithm can run and is preferred; ``pool``: a max-pool that it must compute too."""
        return pool is None

    def spreads(self, g: ConvGeometry) -> bool:
        """Whether NaN and infinity reach outputs whose windows do not see them: the algorithm multiplies them by 0."""
        return False

    def scratch(
        self, direction: str, g: ConvGeometry, batch: int, pool: PoolGeometry | None = None
    ) -> Mapping[str, Scratch]:
        """Return the buffers that a direction needs for up to ``batch`` images, by name."""
        return {}

    def shards_at_once(self, g: ConvGeometry, batch: int, images: Sequence[int]) -> int:
        """Return how many shards ``weight_gradient`` can sum at once, in a plan for ``batch`` images; 0 if it cannot.

        ``images``: those of each shard. With ``epilogue.shards`` it writes their sum in the order of a binary tree,
        with the same bits however many are summed at once. Where the number depends on ``batch`` or ``images``, which
        differ between ranks, 0 must mean the same bits too.
        """
        return 0

    def cost(self, direction: str, g: ConvGeometry, batch: int, pool: PoolGeometry | None = None) -> Cost:
        """Return the operations that run, and the bytes of x, y and the stored weights, each moved once.

        Algorithms that compete for one image add those of large buffers between their passes.
        """
        images = batch * (g.h * g.w * g.c + g.p * g.q * g.k)
        return Cost(batch * g.flops, 4 * (images + g.r * g.s * (g.c // g.groups) * g.k))
