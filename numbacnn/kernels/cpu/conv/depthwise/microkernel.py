"""The depthwise microkernel: sums over a window, for one vector of channels, that stay in registers.

    y[i, c] = Σ_rts x[i·step + r·x_r + t·x_t + s·x_s, c] · w[r·w_r + t·w_t + s·w_s, c]   for neighboring pixels i

A depthwise convolution is limited by memory, and the hardware prefetcher does not follow the rows of windows. The
microkernel therefore prefetches the next inputs and outputs, which at least doubles the speed for images out of cache.
"""

from functools import cache, partial
from typing import NamedTuple

from numba.core import cgutils, types
from numba.extending import intrinsic

from numbacnn.kernels.cpu.conv.depthwise.accumulators import Emitter
from numbacnn.kernels.cpu.simd import llvm
from numbacnn.kernels.cpu.simd.activations import apply_activation
from numbacnn.kernels.cpu.simd.llvm import INT64

TRIPLE = 3  # taps that share loads


class Window(NamedTuple):
    """Rows, terms per channel and columns of a window, and the strides of inputs and weights in elements."""

    r: int
    t: int
    s: int
    x_r: int
    x_t: int
    x_s: int
    w_r: int
    w_t: int
    w_s: int


class Tile(NamedTuple):
    """Addresses of the first output, input, weight and bias (0 for none), and of the y and x to prefetch."""

    y: int
    x: int
    w: int
    bias: int
    y_next: int
    x_next: int


class Strides(NamedTuple):
    """Elements from one row of outputs to the next, and from one pixel to the next of y and of x."""

    y_row: int
    y_pixel: int
    x_pixel: int


class Store(NamedTuple):
    """Options of the store: the activation before it, a bit of ``simd.activations`` or 0; non-temporal."""

    activation: int
    nontemporal: bool


@cache
def depthwise_microkernel(rows: int, pixels: int, lanes: int, masked: bool):
    """Return the Numba intrinsic ``microkernel(tile, strides, columns, store, window)`` for ``rows`` of ``pixels``.

    With two rows, the window must have at least one row, and rows of inputs must be as far apart as its rows; each
    input is then loaded once for both. Only ``masked`` microkernels accept fewer ``columns`` than a vector has lanes;
    they never access memory past these. Non-temporal stores are used only for whole vectors and if y is aligned; y's
    strides must then be whole vectors.

    If pixels are as far apart as taps, as at stride 1, three taps of a row run together and each input is loaded once
    for them: a processor that multiplies as fast as it loads would wait for the loads.
    """

    @intrinsic
    def microkernel(typing, tile, strides, columns, store, window):
        def emit(context, builder, signature, arguments):
            tile, strides, columns, store, window = arguments
            unpacked = (
                kind(*cgutils.unpack_tuple(builder, value, len(kind._fields)))
                for kind, value in ((Tile, tile), (Strides, strides), (Store, store), (Window, window))
            )
            _WindowEmitter(builder, rows, pixels, lanes, columns if masked else None).emit(*unpacked)
            return context.get_dummy_value()

        return types.void(tile, strides, types.intp, store, window), emit

    return microkernel


class _WindowEmitter(Emitter):
    """Emits a microkernel for ``rows`` of ``pixels`` outputs."""

    def __init__(self, builder, rows, pixels, lanes, columns):
        super().__init__(builder, rows * pixels, lanes, columns)
        self.rows, self.pixels = rows, pixels

    def emit(self, tile, strides, store, window):
        builder = self.builder
        self._prefetch(tile.x_next, window.x_r, write=False)
        with builder.if_then(builder.not_(store.nontemporal)):
            self._prefetch(tile.y_next, strides.y_row, write=True)
        x, w = self.pointer(tile.x), self.pointer(tile.w)
        neighbors = builder.icmp_signed("==", strides.x_pixel, window.x_s)
        triples = builder.select(neighbors, builder.udiv(window.s, INT64(TRIPLE)), INT64(0))
        for first, last, outputs in self._input_rows(window):
            with (
                cgutils.for_range_slice(builder, first, last, INT64(1), intp=INT64) as (r, _),
                cgutils.for_range(builder, window.t, intp=INT64) as term,
            ):
                x_row = self.step(self.step(x, r, window.x_r), term.index, window.x_t)
                w_rows = {
                    i: self.step(self.step(w, builder.sub(r, INT64(i)), window.w_r), term.index, window.w_t)
                    for i in outputs
                }
                self._add_row(x_row, strides.x_pixel, w_rows, triples, window)
        self._finish(tile, strides, store)

    def _input_rows(self, window):
        """Return ranges of input rows, and the output rows that read them."""
        zero, one = INT64(0), INT64(1)
        if self.rows == 1:
            return [(zero, window.r, [0])]
        return [(zero, one, [0]), (one, window.r, [0, 1]), (window.r, self.builder.add(window.r, one), [1])]

    def _prefetch(self, address, row, write):
        """Prefetch as many floats as the microkernel writes."""
        for i in range(self.rows):
            pointer = self.step(self.pointer(address), INT64(i), row)
            for pixel in range(self.pixels):
                llvm.prefetch(self.builder, self.builder.gep(pointer, [INT64(pixel * self.lanes)]), write)

    def _add_row(self, x, x_pixel, w_rows, triples, window):
        """Add the products of one row of inputs and, for each row of outputs, its row of weights."""
        builder, first = self.builder, INT64(0)
        if self.pixels > 1:
            first = builder.mul(triples, INT64(TRIPLE))
            with cgutils.for_range(builder, triples, intp=INT64) as loop:
                tap = builder.mul(loop.index, INT64(TRIPLE))
                self._add_taps(self.step(x, tap, window.x_s), x_pixel, w_rows, tap, window.w_s, TRIPLE)
        with cgutils.for_range_slice(builder, first, window.s, INT64(1), intp=INT64) as (tap, _):
            self._add_taps(self.step(x, tap, window.x_s), x_pixel, w_rows, tap, window.w_s, 1)

    def _add_taps(self, x, x_pixel, w_rows, tap, w_stride, taps):
        """Add the products of ``taps`` neighboring taps, in order for each sum."""
        weights = {
            i: [self.load(self.step(w, self.builder.add(tap, INT64(j)), w_stride)) for j in range(taps)]
            for i, w in w_rows.items()
        }
        for pixel in range(self.pixels + taps - 1):
            value = self.load(x)
            for i, row in weights.items():
                for j in range(taps):
                    if 0 <= pixel - j < self.pixels:
                        self.add_product(self.sums[i * self.pixels + pixel - j], value, row[j])
            x = self.builder.gep(x, [x_pixel])

    def _finish(self, tile, strides, store):
        """Add the bias, last as in the GEMM microkernel, and store."""
        builder = self.builder
        with builder.if_then(builder.icmp_unsigned("!=", tile.bias, INT64(0))):
            bias = self.load(self.pointer(tile.bias))
            for accumulator in self.sums:
                self.add(accumulator, bias)
        y = self.pointer(tile.y)
        apply_activation(builder, store.activation, self.sums)
        if self.mask is not None:
            self._store_sums(y, strides, self.store)
            return
        aligned = builder.and_(store.nontemporal, llvm.can_store_nontemporal(builder, y, self.vector))
        with builder.if_else(aligned) as (nontemporal, ordinary):
            with nontemporal:
                self._store_sums(y, strides, partial(llvm.store_nontemporal, builder))
            with ordinary:
                self._store_sums(y, strides, self.store)

    def _store_sums(self, y, strides, store):
        for i in range(self.rows):
            target = self.step(y, INT64(i), strides.y_row)
            for accumulator in self.sums[i * self.pixels : (i + 1) * self.pixels]:
                store(self.builder.load(accumulator), target)
                target = self.builder.gep(target, [strides.y_pixel])
