"""The gradients of a convolution from the gradient of the max-pool that follows it.

If windows do not overlap, all pixels of a window but one have a gradient of zero: for 2×2 windows, three quarters of
the direct algorithm's multiplications are by zero. These kernels read argmax instead, so the pool's input gradient is
never stored. An output whose gradient is zero adds nothing, even if its input or weight is infinite. Oracle: the pool's
gradient, then the convolution's.

Measured on one core against the direct algorithms and the pool's own gradient, for LeNet-5's second layer (6→16, 14²,
5×5): 2.1 times as fast for the weights, and 4 times for the input. With enough channels, Winograd's algorithm saves
more.
"""

from numbacnn.kernels.convolution import INPUT_GRADIENT, WEIGHT_GRADIENT, ConvAlgorithm, Cost, Scratch
from numbacnn.kernels.cpu.conv.pool_backward.input_gradient import image_shape, packed_shape, pool_input_gradient
from numbacnn.kernels.cpu.conv.pool_backward.weight_gradient import partial_shape, pool_weight_gradient, positions_shape
from numbacnn.kernels.cpu.gemm.gemm import HALF_LANES

MAX_ROWS = 5  # of the window: each is a row of the microkernel
MAX_AREA = 16  # of the pool's window: the filters are scanned for each of its pixels
MIN_TERMS = 100  # that the direct algorithm sums per maximum; with fewer, it fills the vectors better
MAX_WEIGHT_BYTES = 5 << 18  # which every window reads
MAX_IMAGE_BYTES = 1 << 19  # of an image's input gradient, to which windows are added in any order


class PoolBackward(ConvAlgorithm):
    """The algorithm for convolutions that fit the cache, followed by a max-pool whose windows do not overlap."""

    name = "pool gradient"
    directions = WEIGHT_GRADIENT, INPUT_GRADIENT
    yields_to = "winograd4"

    def applies(self, direction, g, pool):
        """Whether the kernels can replace the pool's gradient and the direct ones, and are faster."""
        if pool is None:
            return False
        apart = pool.stride_h >= pool.r and pool.stride_w >= pool.s and 1 < pool.r * pool.s <= MAX_AREA
        contiguous = g.groups == 1 and g.dilation_w == 1 and g.r <= MAX_ROWS
        terms = g.r * g.s * g.c
        filled = g.k / (-(-g.k // HALF_LANES) * HALF_LANES)
        dense = pool.r * pool.s * terms >= MIN_TERMS * filled
        small = 4 * terms * g.k <= MAX_WEIGHT_BYTES and 4 * g.h * g.w * g.c <= MAX_IMAGE_BYTES
        return apart and contiguous and dense and small

    def scratch(self, direction, g, batch, pool=None):
        """Partial sums and positions of maxima; or weights by filter, and images to which windows are added."""
        if direction == WEIGHT_GRADIENT:
            shapes = {"partial": partial_shape(g, batch), "positions": positions_shape(g, pool, batch)}
        else:
            shapes = {"packed": packed_shape(g), "image": image_shape(g, batch)}
        return {name: Scratch(shape) for name, shape in shapes.items()}

    def cost(self, direction, g, batch, pool=None):
        """One window per maximum."""
        pixels, taps = pool.p * pool.q * pool.c, g.r * g.s * g.c
        return Cost(batch * 2 * pixels * taps, 4 * (batch * (g.h * g.w * g.c + 2 * pixels) + taps * g.k))

    def weight_gradient(self, dw, x, dy, scratch, g, epilogue):
        """The inputs of each maximum's window, weighted by its gradient."""
        pool_weight_gradient(dw, x, dy, epilogue.argmax, scratch, g, epilogue.pool, epilogue.shards)

    def shards_at_once(self, g, batch, images):
        """Return the number of groups that scratch has room for."""
        return partial_shape(g, batch)[0]

    def input_gradient(self, dx, dy, w, scratch, g, epilogue):
        """Each maximum's window of weights, weighted by its gradient."""
        packed, image = scratch["packed"], scratch["image"]
        pool_input_gradient(dx, dy, epilogue.argmax, w, packed, image, g, epilogue.pool, epilogue.mask)
