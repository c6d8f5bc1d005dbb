"""Convolution at stride 1 by Winograd's minimal filtering: F(2×2, 3×3), F(4×4, 3×3) and F(2×2, 5×5).

A tile of m×m outputs of r×r windows needs n² inputs, n = m + r − 1. Transformed, inputs and window become n² components
that are multiplied one by one and summed over channels, instead of r²·m² products: 2.25, 4 and 2.78 times fewer. For
many tiles at once that is one matrix product per component, tiles × C times C × K, on the GEMM microkernel:

    y = Aᵀ (Σ_c (G w Gᵀ) ⊙ (Bᵀ x B)) A        dw = Gᵀ (Σ_tiles (Bᵀ x B) ⊙ (A dy Aᵀ)) G

The weight gradient is the transpose of the forward pass with the same matrices, so it saves as much. For the input
gradient, dy is convolved with the window rotated by 180°.

The transforms interpolate at the points 0, ±p, ±q, ∞ (Lavin and Gray 2016, section 4; Blahut 2010, chapter 5): for
n = 4, p = 1; for n = 6, p = 1/√2 and q = √2, with half the error of 1 and 2.

Transformed weights, and transformed arrays of rounds, are components × 1 × rows × NR: the tiles of each panel of
channels, or the channels of each panel of filters, are contiguous, so products read memory in order. The number of rows
is odd: otherwise the components of one tile could be a power of two apart and map to the same few cache sets.
"""

from numbacnn.kernels.convolution import FORWARD, INPUT_GRADIENT, WEIGHT_GRADIENT, ConvAlgorithm, Cost, Scratch
from numbacnn.kernels.cpu.conv.epilogues import aux_or_none, bias_or_none
from numbacnn.kernels.cpu.conv.winograd import winograd
from numbacnn.kernels.cpu.conv.winograd.transforms import Filtering

MIN_WEIGHTS = {4: 128, 2: 512}  # channels × filters, by m
MIN_SAVING = 2.07  # of multiply-adds in whole tiles; with panels of 32 channels, 2.06 was slower and 2.08 faster


class Winograd(ConvAlgorithm):
    """The algorithm for 3×3 and 5×5 windows at stride 1, with tiles of m×m outputs."""

    def __init__(self, m: int) -> None:
        self.m, self.name = m, f"winograd{m}"
        self.family = self.name

    def runs(self, g):
        """Whether there are such tiles for the window."""
        return self.m in g.winograd_tiles

    def applies(self, g, pool):
        """Whether this is the largest tile for the window and saves enough multiplications."""
        is_largest, enough = self.m == max(g.winograd_tiles, default=0), g.c * g.k >= MIN_WEIGHTS[self.m]
        if pool is not None or not (is_largest and enough):
            return False
        taps = g.r**2 * g.c * g.k
        direct = {FORWARD: 2 * taps * g.p * g.q, INPUT_GRADIENT: 2 * taps * g.h * g.w}
        return min(flops / self.cost(direction, g, 1).flops for direction, flops in direct.items()) >= MIN_SAVING

    def spreads(self, g):
        """Over the tile."""
        return True

    def scratch(self, direction, g, batch, pool=None):
        """Transformed weights, tiles, and for the input gradient packed windows; for the weight gradient sums."""
        f = Filtering(self.m, g.r)
        if direction == WEIGHT_GRADIENT:
            return {name: Scratch(shape) for name, shape in winograd.gradient_shapes(g, batch, f).items()}
        outputs = (g.p, g.q, g.c, g.k) if direction == FORWARD else (g.h, g.w, g.k, g.c)
        weights, tiles = winograd.convolution_shapes(batch, *outputs, f)
        buffers = {"weights": Scratch(weights, prepared=True), "tiles": Scratch(tiles)}
        return buffers if direction == FORWARD else buffers | {"packed": Scratch(winograd.packed_shape(g))}

    def cost(self, direction, g, batch, pool=None):
        """The products of whole tiles and vectors, without the transforms; weights are stored transformed."""
        f = Filtering(self.m, g.r)
        height, width = (g.h, g.w) if direction == INPUT_GRADIENT else (g.p, g.q)
        tiles = batch * winograd.tiles(height, f.m) * winograd.tiles(width, f.m)
        inputs, outputs = (g.k, g.c) if direction == INPUT_GRADIENT else (g.c, g.k)
        products = f.n**2 * inputs * winograd.in_vectors(outputs)
        weights = f.n**2 * winograd.padded(g.c) * winograd.padded(g.k)
        return Cost(2 * tiles * products, 4 * (batch * (g.h * g.w * g.c + g.p * g.q * g.k) + weights))

    def forward(self, y, x, w, b, scratch, g, epilogue):
        """Transform, multiply, transform back."""
        f, aux = Filtering(self.m, g.r), aux_or_none(epilogue.residual)
        winograd.winograd_forward(y, x, w, bias_or_none(b), aux, scratch, g, f, epilogue.relu)

    def weight_gradient(self, dw, x, dy, scratch, g, epilogue):
        """Transform, multiply over tiles, transform back."""
        if epilogue.shards:
            winograd.winograd_sharded_gradient(dw, x, dy, epilogue.shards, scratch, g, Filtering(self.m, g.r))
        else:
            winograd.winograd_weight_gradient(dw, x, dy, scratch, g, Filtering(self.m, g.r))

    def shards_at_once(self, g, batch, images):
        """Return the number that scratch has room for."""
        return winograd.shards_per_round(g, batch, max(images), Filtering(self.m, g.r))

    def input_gradient(self, dx, dy, w, scratch, g, epilogue):
        """The convolution of dy with the rotated window."""
        winograd.winograd_input_gradient(dx, dy, w, aux_or_none(epilogue.mask), scratch, g, Filtering(self.m, g.r))
