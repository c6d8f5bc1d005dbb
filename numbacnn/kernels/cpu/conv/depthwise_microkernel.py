"""The tile of depthwise convolution: sums for a vector of channels, which do not mix, that never leave the registers.

    y[i, c] = Σ_rts x[i·step + r·x_r + t·x_t + s·x_s, c] · w[r·w_r + t·w_t + s·w_s, c]   for neighbouring pixels i

No processor guesses from rows of windows what it ought to fetch, and memory is what a depthwise convolution waits for,
so the tile asks for what will be needed a little later: twice the speed, or more, for images out of cache.
"""

from functools import cache, partial
from typing import NamedTuple

from numba.core import cgutils, types
from numba.extending import intrinsic

from numbacnn.kernels.cpu.simd import llvm
from numbacnn.kernels.cpu.simd.llvm import INT64
from numbacnn.kernels.cpu.simd.sums import Emitter

TOGETHER = 3  # taps


class Window(NamedTuple):
    """Rows, terms of a channel, and columns of a window, and the steps of their inputs and weights, in elements."""

    r: int
    t: int
    s: int
    x_r: int
    x_t: int
    x_s: int
    w_r: int
    w_t: int
    w_s: int


@cache
def window_tile(rows: int, pixels: int, lanes: int, masked: bool):
    """``tile(y, y_row, y_step, x, x_step, w, bias, columns, x_ahead, y_ahead, relu, past, window)`` for Numba code.

    One row of outputs, or two whose inputs lie as far apart as the rows of a window, of which there is one at least:
    then each input is loaded once for both. ``y x w bias`` are addresses of float32 (bias may be 0: none), steps lead
    from row to row and from pixel to pixel, in elements. Only ``masked`` tiles heed ``columns``, the channels there
    are: they touch nothing beyond them. ``x_ahead y_ahead`` are addresses from which as much of each row will be read
    and written as here, a little later. ``past``: whole tiles write past the caches, where y's address lets them; y's
    steps are then those of whole vectors. Where pixels lie as far apart as taps, as they do at stride 1, three taps of
    a window's row run together and each input is loaded once for the three: a processor that multiplies as fast as it
    loads waits for loads.
    """

    @intrinsic
    def tile(typing, y, y_row, y_step, x, x_step, w, bias, columns, x_ahead, y_ahead, relu, past, window):
        signature = types.void(*[types.intp] * 10, types.boolean, types.boolean, window)

        def emit(context, builder, signature, arguments):
            *numbers, columns, x_ahead, y_ahead, relu, past, window = arguments
            steps = Window(*cgutils.unpack_tuple(builder, window, len(Window._fields)))
            emitter = _WindowEmitter(builder, rows, pixels, lanes, columns if masked else None)
            emitter.emit(*numbers, x_ahead, y_ahead, relu, past, steps)
            return context.get_dummy_value()

        return signature, emit

    return tile


class _WindowEmitter(Emitter):
    """``rows`` of ``pixels``."""

    def __init__(self, builder, rows, pixels, lanes, columns):
        super().__init__(builder, rows * pixels, lanes, columns)
        self.rows, self.pixels = rows, pixels

    def emit(self, y, y_row, y_step, x, x_step, w, bias, x_ahead, y_ahead, relu, past, window):
        builder = self.builder
        self._ask(x_ahead, window.x_r, write=False)
        with builder.if_then(builder.not_(past)):
            self._ask(y_ahead, y_row, write=True)
        x, w = self.pointer(x), self.pointer(w)
        neighbours = builder.icmp_signed("==", x_step, window.x_s)
        triples = builder.select(neighbours, builder.udiv(window.s, INT64(TOGETHER)), INT64(0))
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
                self._add_row(x_row, x_step, w_rows, triples, window)
        self._finish(y, y_row, y_step, bias, relu, past)

    def _input_rows(self, window):
        """Ranges of rows of inputs, and which rows of outputs see them."""
        zero, one = INT64(0), INT64(1)
        if self.rows == 1:
            return [(zero, window.r, [0])]
        return [(zero, one, [0]), (one, window.r, [0, 1]), (window.r, self.builder.add(window.r, one), [1])]

    def _ask(self, address, row, write):
        """Has as many floats as the tile writes fetched from ``address``, which may lie outside of any array."""
        for i in range(self.rows):
            pointer = self.step(self.pointer(address), INT64(i), row)
            for pixel in range(self.pixels):
                llvm.prefetch(self.builder, self.builder.gep(pointer, [INT64(pixel * self.lanes)]), write)

    def _add_row(self, x, x_step, w_rows, triples, window):
        """Adds the products of a row of inputs by the row of weights at which each row of outputs sees it."""
        builder, first = self.builder, INT64(0)
        if self.pixels > 1:
            first = builder.mul(triples, INT64(TOGETHER))
            with cgutils.for_range(builder, triples, intp=INT64) as loop:
                tap = builder.mul(loop.index, INT64(TOGETHER))
                self._add_taps(self.step(x, tap, window.x_s), x_step, w_rows, tap, window.w_s, TOGETHER)
        with cgutils.for_range_slice(builder, first, window.s, INT64(1), intp=INT64) as (tap, _):
            self._add_taps(self.step(x, tap, window.x_s), x_step, w_rows, tap, window.w_s, 1)

    def _add_taps(self, x, x_step, w_rows, tap, w_step, taps):
        """Adds the products of ``taps`` neighbouring taps; those of each sum in their order."""
        weights = {
            i: [self.load(self.step(w, self.builder.add(tap, INT64(j)), w_step)) for j in range(taps)]
            for i, w in w_rows.items()
        }
        for pixel in range(self.pixels + taps - 1):
            value = self.load(x)
            for i, row in weights.items():
                for j in range(taps):
                    if 0 <= pixel - j < self.pixels:
                        self.add_product(self.sums[i * self.pixels + pixel - j], value, row[j])
            x = self.builder.gep(x, [x_step])

    def _finish(self, y, y_row, y_step, bias, relu, past):
        """The bias comes last, as in the register tile."""
        builder, zero = self.builder, llvm.zeros(self.vector)
        with builder.if_then(builder.icmp_unsigned("!=", bias, INT64(0))):
            part = self.load(self.pointer(bias))
            for place in self.sums:
                self.add(place, part)
        y = self.pointer(y)
        with builder.if_then(relu):
            for place in self.sums:
                value = builder.load(place)
                builder.store(builder.select(builder.fcmp_ordered("<", value, zero), zero, value), place)
        if self.mask is not None:
            self._store_sums(y, y_row, y_step, self.store)
            return
        with builder.if_else(builder.and_(past, llvm.streams(builder, y, self.vector))) as (streaming, ordinary):
            with streaming:
                self._store_sums(y, y_row, y_step, partial(llvm.store_streaming, builder))
            with ordinary:
                self._store_sums(y, y_row, y_step, self.store)

    def _store_sums(self, y, y_row, y_step, store):
        for i in range(self.rows):
            target = self.step(y, INT64(i), y_row)
            for place in self.sums[i * self.pixels : (i + 1) * self.pixels]:
                store(self.builder.load(place), target)
                target = self.builder.gep(target, [y_step])
