"""The tiles of the depthwise weight gradient: sums for vectors of channels that never leave the registers.

    dw[t, c] += Σ_pq x[p·x_p + q·x_q + offset(t), c] · dy[p·dy_p + q·dy_q, c]   for some taps t

``tap_tile`` takes any taps, ``square_tile`` those of a 3×3 window whose columns lie as far apart as pixels: it loads
each input once for three pixels, and two vectors of channels at a time, so that the processor sees whole lines of
memory in order. An eighth faster out of cache, half as fast again in it.
"""

from functools import cache
from typing import NamedTuple

from numba.core import cgutils, types
from numba.extending import intrinsic

from numbacnn.kernels.cpu.simd import llvm
from numbacnn.kernels.cpu.simd.llvm import INT64
from numbacnn.kernels.cpu.simd.sums import Emitter

SIDE = 3  # taps of a square, each way
SQUARE_VECTORS = 2


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
    """A function ``tile(dw, dw_rows, x, x_rows, dy, columns, x_ahead, dy_ahead, add, pixels)`` for Numba code.

    ``dw x dy`` are addresses of float32, ``dw_rows x_rows`` of ``taps`` int64, where each tap's weights and inputs lie,
    in elements. ``add``: to what dw has, which is overwritten otherwise. ``x_ahead dy_ahead``: elements from the
    inputs, and from the gradients, to those of pixels that come a little later. ``columns`` as in ``window_tile``.
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


@cache
def square_tile(lanes: int):
    """A function ``tile(dw, dw_rows, x, x_rows, dy, add, pixels)`` for ``SQUARE_VECTORS`` whole vectors of channels.

    As ``tap_tile`` of the nine taps of a window, row by row, at steps of ``x_q`` in each.
    """

    @intrinsic
    def tile(typing, dw, dw_rows, x, x_rows, dy, add, pixels):
        signature = types.void(*[types.intp] * 5, types.boolean, pixels)

        def emit(context, builder, signature, arguments):
            *numbers, add, pixels = arguments
            steps = PixelSteps(*cgutils.unpack_tuple(builder, pixels, len(PixelSteps._fields)))
            _SquareEmitter(builder, SIDE * SIDE * SQUARE_VECTORS, lanes, None).emit(*numbers, add, steps)
            return context.get_dummy_value()

        return signature, emit

    return tile


class _TableEmitter(Emitter):
    """Tables of where taps lie."""

    def rows(self, base, table, count):
        """Pointers to the first element of each of ``count`` taps."""
        base, table = self.pointer(base), self.builder.inttoptr(table, INT64.as_pointer())
        offsets = [self.builder.load(self.builder.gep(table, [INT64(i)])) for i in range(count)]
        return [self.builder.gep(base, [offset]) for offset in offsets]

    def write(self, pointers, add):
        """The sums, added to what is there where ``add`` is set."""
        with self.builder.if_then(add):
            for total, pointer in zip(self.sums, pointers, strict=True):
                self.add(total, self.load(pointer))
        for total, pointer in zip(self.sums, pointers, strict=True):
            self.store(self.builder.load(total), pointer)


class _TapEmitter(_TableEmitter):
    """``count``: of taps."""

    def emit(self, dw, dw_rows, x, x_rows, dy, x_ahead, dy_ahead, add, pixels):
        builder = self.builder
        inputs, dy = self.rows(x, x_rows, self.count), self.pointer(dy)
        with (
            cgutils.for_range(builder, pixels.p, intp=INT64) as row,
            cgutils.for_range(builder, pixels.q, intp=INT64) as column,
        ):
            place = builder.add(builder.mul(row.index, pixels.x_p), builder.mul(column.index, pixels.x_q))
            dy_here = self.step(self.step(dy, row.index, pixels.dy_p), column.index, pixels.dy_q)
            gradient = self.load(dy_here)
            for total, pointer in zip(self.sums, inputs, strict=True):
                self.add_product(total, self.load(builder.gep(pointer, [place])), gradient)
            llvm.prefetch(builder, builder.gep(inputs[0], [builder.add(place, x_ahead)]))
            llvm.prefetch(builder, builder.gep(dy_here, [dy_ahead]))
        self.write(self.rows(dw, dw_rows, self.count), add)


class _SquareEmitter(_TableEmitter):
    """``count``: of vectors of taps. Asks for nothing ahead: that would take as long as the sums."""

    def emit(self, dw, dw_rows, x, x_rows, dy, add, pixels):
        builder = self.builder
        inputs, dy = self.rows(x, x_rows, SIDE * SIDE)[::SIDE], self.pointer(dy)
        rest = builder.sub(pixels.q, builder.urem(pixels.q, INT64(SIDE)))
        with cgutils.for_range(builder, pixels.p, intp=INT64) as row:
            x_row, dy_row = builder.mul(row.index, pixels.x_p), self.step(dy, row.index, pixels.dy_p)
            for first, last, together in ((INT64(0), rest, SIDE), (rest, pixels.q, 1)):
                with cgutils.for_range_slice(builder, first, last, INT64(together), intp=INT64) as (q, _):
                    place = builder.add(x_row, builder.mul(q, pixels.x_q))
                    x_here = [builder.gep(pointer, [place]) for pointer in inputs]
                    self._add_pixels(x_here, self.step(dy_row, q, pixels.dy_q), together, pixels)
        taps = self.rows(dw, dw_rows, SIDE * SIDE)
        self.write([place for tap in taps for place in self._vectors(tap)], add)

    def _add_pixels(self, x_rows, dy, count, pixels):
        """Adds the products of ``count`` neighbouring pixels."""
        gradients = []
        for _ in range(count):
            gradients.append([self.load(place) for place in self._vectors(dy)])
            dy = self.builder.gep(dy, [pixels.dy_q])
        for r, x in enumerate(x_rows):
            for column in range(count + SIDE - 1):
                for v, place in enumerate(self._vectors(x)):
                    value = self.load(place)
                    for s in range(SIDE):
                        if 0 <= column - s < count:
                            total = self.sums[(SIDE * r + s) * SQUARE_VECTORS + v]
                            self.add_product(total, value, gradients[column - s][v])
                x = self.builder.gep(x, [pixels.x_q])

    def _vectors(self, pointer):
        return [self.builder.gep(pointer, [INT64(v * self.lanes)]) for v in range(SQUARE_VECTORS)]
