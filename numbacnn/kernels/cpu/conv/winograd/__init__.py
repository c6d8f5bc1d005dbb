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

from numbacnn.kernels.convolution import (
    DIRECTIONS,
    FORWARD,
    INPUT_GRADIENT,
    WEIGHT_GRADIENT,
    ConvAlgorithm,
    Cost,
    Scratch,
)
from numbacnn.kernels.cpu.conv.col2im import MAX_CHANNELS
from numbacnn.kernels.cpu.conv.epilogues import aux_or_none, bias_or_none
from numbacnn.kernels.cpu.conv.winograd import winograd
from numbacnn.kernels.cpu.conv.winograd.transforms import Filtering
from numbacnn.kernels.cpu.gemm.padding import LONGEST_VECTOR, in_longest_panels, in_longest_vectors

MIN_WEIGHTS = {4: 128, 2: 512}  # channels × filters, by m
# Minimum of channels that are summed, and of channels of outputs, by m and direction. The direct algorithm computes
# fewer output channels in pixel pairs or half vectors.
MIN_CHANNELS = {
    4: {FORWARD: (1, 5), WEIGHT_GRADIENT: (9, 5), INPUT_GRADIENT: (1, 4)},
    2: dict.fromkeys(DIRECTIONS, (9, 9)),
}
MIN_SAVING = 2.07  # of multiply-adds in whole tiles; with panels of 32 channels, 2.06 was slower and 2.08 faster
MIN_REUSE = 5.2  # multiply-adds of a component per float of it that is transformed; measured: 5 slower, 5.3 faster
TILES_PER_TRANSFER = 2  # transformed tiles that are written and read, mostly in L2, while one is read from memory
COL2IM_FLOATS = 1 << 15  # of an image's columns, up to which col2im is faster
HALF_VECTOR = 3 / 4  # time of a half vector of outputs in the direct algorithm, over that of a whole one


class Winograd(ConvAlgorithm):
    """The algorithm for 3×3 and 5×5 windows at stride 1, with tiles of m×m outputs."""

    def __init__(self, m: int) -> None:
        self.m, self.name = m, f"winograd{m}"
        self.family = self.name

    def runs(self, direction, g):
        """Whether there are such tiles for the window."""
        return self.m in g.winograd_tiles

    def applies(self, direction, g, pool):
        """Whether this is the largest tile for the window, and saves more than transforms cost."""
        is_largest, enough = self.m == max(g.winograd_tiles, default=0), g.c * g.k >= MIN_WEIGHTS[self.m]
        if pool is not None or not (is_largest and enough):
            return False
        f, (height, width, inputs, outputs) = Filtering(self.m, g.r), _sizes(direction, g)
        min_inputs, min_outputs = MIN_CHANNELS[self.m][direction]
        lanes = in_longest_vectors(outputs)
        direct = f.r**2 * height * width * _direct_cost(outputs)
        saves = direct >= MIN_SAVING * f.n**2 * winograd.tiles_of_image(height, width, f) * lanes
        pays = inputs * lanes >= MIN_REUSE * (in_longest_vectors(inputs) + lanes)
        few = outputs <= MAX_CHANNELS and height * width * f.r**2 * outputs <= COL2IM_FLOATS
        yields = direction == INPUT_GRADIENT and few
        return inputs >= min_inputs and outputs >= min_outputs and saves and pays and not yields

    def spreads(self, g):
        """Over the tile."""
        return True

    def scratch(self, direction, g, batch, pool=None):
        """Transformed weights, tiles, and for the input gradient packed windows; for the weight gradient sums."""
        f = Filtering(self.m, g.r)
        if direction == WEIGHT_GRADIENT:
            return {name: Scratch(shape) for name, shape in winograd.gradient_shapes(g, batch, f).items()}
        weights, tiles = winograd.convolution_shapes(batch, *_sizes(direction, g), f)
        buffers = {"weights": Scratch(weights, prepared=True), "tiles": Scratch(tiles)}
        return buffers if direction == FORWARD else buffers | {"packed": Scratch(winograd.packed_shape(g))}

    def cost(self, direction, g, batch, pool=None):
        """The products of whole tiles and vectors; and the tiles and weights that are written between passes.

        Inference transforms its weights once; in training, each step transforms them, or their gradient.
        """
        f, (height, width, inputs, outputs) = Filtering(self.m, g.r), _sizes(direction, g)
        tiles = batch * winograd.tiles_of_image(height, width, f)
        images = batch * (g.h * g.w * g.c + g.p * g.q * g.k)
        weights, transformed = g.r**2 * g.c * g.k, f.n**2 * in_longest_panels(g.c) * in_longest_panels(g.k)
        transformed_tiles = f.n**2 * tiles * (inputs if direction != WEIGHT_GRADIENT else inputs + outputs)
        moved = {
            FORWARD: transformed,
            WEIGHT_GRADIENT: 2 * transformed + weights,
            INPUT_GRADIENT: 2 * transformed + 3 * weights,  # which are packed first
        }
        flops = 2 * f.n**2 * tiles * inputs * in_longest_vectors(outputs)
        return Cost(flops, 4 * (images + transformed_tiles // TILES_PER_TRANSFER + moved[direction]))

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


def _sizes(direction, g):
    """The height and width of outputs, the channels that are summed for each, and the channels of the outputs."""
    return (g.h, g.w, g.k, g.c) if direction == INPUT_GRADIENT else (g.p, g.q, g.c, g.k)


def _direct_cost(outputs):
    """The time of the direct algorithm for a pixel's outputs, in units of its time for a lane of a full vector."""
    whole = in_longest_vectors(outputs)
    return whole - (1 - HALF_VECTOR) * LONGEST_VECTOR if 2 * (whole - outputs) >= LONGEST_VECTOR else whole
