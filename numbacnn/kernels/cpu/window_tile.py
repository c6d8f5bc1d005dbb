"""The tiles of depthwise convolution: sums for a vector of channels, which do not mix, that never leave the registers.

    y[i, c] = Σ_rts x[i·step + r·x_r + t·x_t + s·x_s, c] · w[r·w_r + t·w_t + s·w_s, c]   ``window_tile``, neighbours i
    dw[t, c] += Σ_pq x[p·x_p + q·x_q + offset(t), c] · dy[p·dy_p + q·dy_q, c]   ``tap_tile``, some taps t

No processor guesses from rows of windows what it ought to fetch, and memory is what a depthwise convolution waits for,
so the tiles ask for what will be needed a little later: twice the speed, or more, for images out of cache.
"""

from functools import cache, partial
from typing import NamedTuple

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from numbacnn.kernels.cpu import simd_ir
from numbacnn.kernels.cpu.simd_ir import FLOAT, INT64
from numbacnn.kernels.target import host_target

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
def window_tile(pixels: int, lanes: int, masked: bool):
    """``tile(y, y_step, x, x_step, w, bias, columns, x_ahead, y_ahead, relu, past, window)`` for Numba code.

    ``y x w bias`` are addresses of float32 (bias may be 0: none), steps lead from pixel to pixel, in elements. Only
    ``masked`` tiles heed ``columns``, the channels there are: they touch nothing beyond them. ``x_ahead y_ahead`` are
    addresses from which as much will be read and written as here, a little later. ``past``: whole tiles write past the
    caches, where y's address lets them; y's step is then one of whole vectors. Where pixels lie as far apart as taps,
    as they do at stride 1, three taps of a window's row run together and each input is loaded once for the three: a
    processor that multiplies as fast as it loads waits for loads.
    """

    @intrinsic
    def tile(typing, y, y_step, x, x_step, w, bias, columns, x_ahead, y_ahead, relu, past, window):
        signature = types.void(*[types.intp] * 9, types.boolean, types.boolean, window)

        def emit(context, builder, signature, arguments):
            *numbers, columns, x_ahead, y_ahead, relu, past, window = arguments
            steps = Window(*cgutils.unpack_tuple(builder, window, len(Window._fields)))
            emitter = _WindowEmitter(builder, pixels, lanes, columns if masked else None)
            emitter.emit(*numbers, x_ahead, y_ahead, relu, past, steps)
            return context.get_dummy_value()

        return signature, emit

    return tile


class PixelSteps(NamedTuple):
    """Rows and columns of pixels, and the steps between their inputs and between their gradients, in elements."""

    p: int
    q: int
    x_p: int
    x_q: int
    dy_p: int
    dy_q: int


@cache
def tap_tile(taps: int, lanes: int, masked: bool):
    """A function ``tile(dw, dw_rows, x, x_rows, dy, columns, ahead, add, pixels)`` for Numba code.

    ``dw x dy`` are addresses of float32, ``dw_rows x_rows`` of ``taps`` int64, where each tap's weights and inputs lie,
    in elements. ``add``: to what dw has, which is overwritten otherwise. ``ahead``: elements from the inputs, and from
    the gradients, to those of pixels that come a little later. ``columns`` as in ``window_tile``.
    """

    @intrinsic
    def tile(typing, dw, dw_rows, x, x_rows, dy, columns, x_ahead, dy_ahead, add, pixels):
        signature = types.void(*[types.intp] * 8, types.boolean, pixels)

        def emit(context, builder, signature, arguments):
            *numbers, columns, x_ahead, dy_ahead, add, pixels = arguments
            steps = PixelSteps(*cgutils.unpack_tuple(builder, pixels, len(PixelSteps._fields)))
            emitter = _TapEmitter(builder, taps, lanes, columns if masked else None)
            emitter.emit(*numbers, x_ahead, dy_ahead, add, steps)
            return context.get_dummy_value()

        return signature, emit

    return tile


class _Emitter:
    """Writes a tile's IR at the builder's place: sums that start at zero, loads and stores of so many columns."""

    def __init__(self, builder, count, lanes, columns):
        self.builder, self.count, self.lanes, self.fma = builder, count, lanes, host_target().fma
        self.vector = ir.VectorType(FLOAT, lanes)
        self.mask = None if columns is None else simd_ir.mask(builder, columns, lanes)
        self.sums = [cgutils.alloca_once(builder, self.vector) for _ in range(count)]
        for place in self.sums:
            builder.store(simd_ir.zeros(self.vector), place)

    def pointer(self, address):
        return self.builder.inttoptr(address, FLOAT.as_pointer())

    def step(self, pointer, index, step):
        return self.builder.gep(pointer, [self.builder.mul(index, step)])

    def add_product(self, place, a, b):
        self.builder.store(simd_ir.fma(self.builder, a, b, self.builder.load(place), self.fma), place)

    def add(self, place, value):
        self.builder.store(self.builder.fadd(self.builder.load(place), value), place)

    def load(self, pointer):
        if self.mask is None:
            return simd_ir.load(self.builder, pointer, self.vector)
        return simd_ir.load_masked(self.builder, pointer, self.mask, self.vector)

    def store(self, value, pointer):
        if self.mask is None:
            simd_ir.store(self.builder, value, pointer)
        else:
            simd_ir.store_masked(self.builder, value, pointer, self.mask)


class _WindowEmitter(_Emitter):
    """``count``: of pixels."""

    def emit(self, y, y_step, x, x_step, w, bias, x_ahead, y_ahead, relu, past, window):
        builder = self.builder
        self._ask(x_ahead, write=False)
        with builder.if_then(builder.not_(past)):
            self._ask(y_ahead, write=True)
        x, w = self.pointer(x), self.pointer(w)
        neighbours = builder.icmp_signed("==", x_step, window.x_s)
        triples = builder.select(neighbours, builder.udiv(window.s, INT64(TOGETHER)), INT64(0))
        with (
            cgutils.for_range(builder, window.r, intp=INT64) as row,
            cgutils.for_range(builder, window.t, intp=INT64) as term,
        ):
            x_row = self.step(self.step(x, row.index, window.x_r), term.index, window.x_t)
            w_row = self.step(self.step(w, row.index, window.w_r), term.index, window.w_t)
            first = INT64(0)
            if self.count > 1:
                first = builder.mul(triples, INT64(TOGETHER))
                with cgutils.for_range(builder, triples, intp=INT64) as loop:
                    tap = builder.mul(loop.index, INT64(TOGETHER))
                    self._add_taps(self.step(x_row, tap, window.x_s), x_step, w_row, tap, window.w_s, TOGETHER)
            with cgutils.for_range_slice(builder, first, window.s, INT64(1), intp=INT64) as (tap, _):
                self._add_taps(self.step(x_row, tap, window.x_s), x_step, w_row, tap, window.w_s, 1)
        self._finish(y, y_step, bias, relu, past)

    def _ask(self, address, write):
        """Has as many floats as the tile writes fetched from ``address``, which may lie outside of any array."""
        pointer = self.pointer(address)
        for pixel in range(self.count):
            simd_ir.prefetch(self.builder, self.builder.gep(pointer, [INT64(pixel * self.lanes)]), write)

    def _add_taps(self, x, x_step, w, tap, w_step, taps):
        """Adds the products of ``taps`` neighbouring taps; those of each sum in their order."""
        weights = [self.load(self.step(w, self.builder.add(tap, INT64(i)), w_step)) for i in range(taps)]
        for pixel in range(self.count + taps - 1):
            value = self.load(x)
            for i in range(taps):
                if 0 <= pixel - i < self.count:
                    self.add_product(self.sums[pixel - i], value, weights[i])
            x = self.builder.gep(x, [x_step])

    def _finish(self, y, y_step, bias, relu, past):
        """The bias comes last, as in the register tile."""
        builder, zero = self.builder, simd_ir.zeros(self.vector)
        with builder.if_then(builder.icmp_unsigned("!=", bias, INT64(0))):
            part = self.load(self.pointer(bias))
            for place in self.sums:
                self.add(place, part)
        y = self.pointer(y)
        for place in self.sums:
            value = builder.load(place)
            rectified = builder.select(builder.fcmp_ordered("<", value, zero), zero, value)
            builder.store(builder.select(relu, rectified, value), place)
        if self.mask is not None:
            self._store_sums(y, y_step, self.store)
            return
        with builder.if_else(builder.and_(past, simd_ir.streams(builder, y, self.vector))) as (streaming, ordinary):
            with streaming:
                self._store_sums(y, y_step, partial(simd_ir.store_streaming, builder))
            with ordinary:
                self._store_sums(y, y_step, self.store)

    def _store_sums(self, y, y_step, store):
        for place in self.sums:
            store(self.builder.load(place), y)
            y = self.builder.gep(y, [y_step])


class _TapEmitter(_Emitter):
    """``count``: of taps."""

    def emit(self, dw, dw_rows, x, x_rows, dy, x_ahead, dy_ahead, add, pixels):
        builder = self.builder
        inputs, dy = self._rows(x, x_rows), self.pointer(dy)
        with (
            cgutils.for_range(builder, pixels.p, intp=INT64) as row,
            cgutils.for_range(builder, pixels.q, intp=INT64) as column,
        ):
            place = builder.add(builder.mul(row.index, pixels.x_p), builder.mul(column.index, pixels.x_q))
            dy_here = self.step(self.step(dy, row.index, pixels.dy_p), column.index, pixels.dy_q)
            gradient = self.load(dy_here)
            for total, pointer in zip(self.sums, inputs, strict=True):
                self.add_product(total, self.load(builder.gep(pointer, [place])), gradient)
            simd_ir.prefetch(builder, builder.gep(inputs[0], [builder.add(place, x_ahead)]))
            simd_ir.prefetch(builder, builder.gep(dy_here, [dy_ahead]))
        weights = self._rows(dw, dw_rows)
        with builder.if_then(add):
            for total, pointer in zip(self.sums, weights, strict=True):
                self.add(total, self.load(pointer))
        for total, pointer in zip(self.sums, weights, strict=True):
            self.store(builder.load(total), pointer)

    def _rows(self, base, table):
        """Pointers to each tap's element 0."""
        base, table = self.pointer(base), self.builder.inttoptr(table, INT64.as_pointer())
        offsets = [self.builder.load(self.builder.gep(table, [INT64(i)])) for i in range(self.count)]
        return [self.builder.gep(base, [offset]) for offset in offsets]
