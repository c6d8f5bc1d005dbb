"""The depthwise weight-gradient microkernels: sums over pixels, for a vector of channels, that stay in registers.

    dw[t, c] += Σ_pq x[p·x_p + q·x_q + offset(t), c] · dy[p·dy_p + q·dy_q, c]   for some taps t

``taps_microkernel`` takes any taps. ``window_microkernel`` takes the taps of a window on a regular grid, and the pixels
of two rows at a time: inputs move through registers from tap to tap, so that 6 loads serve 18 multiply-adds of a 3×3
window, or 12 at stride 2. The next pixel is often half a page away; such addresses compete for a few sets of the
first-level cache, which would not hold the inputs until the next tap.
"""

from functools import cache
from typing import NamedTuple

from numba.core import cgutils, types
from numba.extending import intrinsic

from numbacnn.kernels.cpu.conv.depthwise.accumulators import Emitter
from numbacnn.kernels.cpu.simd import llvm
from numbacnn.kernels.cpu.simd.llvm import INT64

ROWS = 2  # of pixels that are summed column by column


class TapTile(NamedTuple):
    """Addresses of float32 dw, x and dy, and of the int64 offsets of each tap's weight and input, in elements."""

    dw: int
    dw_rows: int
    x: int
    x_rows: int
    dy: int


class PixelLoops(NamedTuple):
    """Two loops over pixels. Strides and distances are in elements."""

    p: int  # rows of pixels
    q: int  # columns
    x_p: int  # strides of x between rows and between columns of pixels
    x_q: int
    dy_p: int
    dy_q: int
    x_prefetch: int = 0  # distance from the current element of x to the one to prefetch
    dy_prefetch: int = 0


@cache
def taps_microkernel(taps: int, rows: int, lanes: int, masked: bool):
    """Return the Numba intrinsic ``microkernel(tile, columns, accumulate, pixels)``: ``taps`` sums for a vector.

    It takes the pixels of ``rows`` rows at a time. ``accumulate``: add to dw instead of overwriting it. ``columns`` is
    that of ``depthwise_microkernel``.
    """

    @intrinsic
    def microkernel(typing, tile, columns, accumulate, pixels):
        def emit(context, builder, signature, arguments):
            tile, columns, accumulate, pixels = arguments
            emitter = _TapEmitter(builder, taps, rows, lanes, columns if masked else None)
            emitter.emit(*_unpack(builder, tile, pixels), accumulate)
            return context.get_dummy_value()

        return types.void(tile, types.intp, types.boolean, pixels), emit

    return microkernel


@cache
def window_microkernel(rows: int, taps: int, step: int, lanes: int, masked: bool, prefetches: bool):
    """Return the Numba intrinsic ``microkernel(tile, columns, accumulate, pixels)``: ``rows`` rows of ``taps`` sums.

    The taps are those of a window, row by row. Pixels are ``step`` taps apart: 1 or 2. With ``prefetches``, the rows
    are the window's last.
    """

    @intrinsic
    def microkernel(typing, tile, columns, accumulate, pixels):
        def emit(context, builder, signature, arguments):
            tile, columns, accumulate, pixels = arguments
            emitter = _WindowEmitter(builder, rows, taps, step, lanes, columns if masked else None, prefetches)
            emitter.emit(*_unpack(builder, tile, pixels), accumulate)
            return context.get_dummy_value()

        return types.void(tile, types.intp, types.boolean, pixels), emit

    return microkernel


def _unpack(builder, tile, pixels):
    return (
        TapTile(*cgutils.unpack_tuple(builder, tile, len(TapTile._fields))),
        PixelLoops(*cgutils.unpack_tuple(builder, pixels, len(PixelLoops._fields))),
    )


class _TableEmitter(Emitter):
    """Emits microkernels whose taps are addressed through tables of offsets."""

    def row_loops(self, p, together):
        """Emit the loops over ``p`` rows of pixels; yield the first row and the number of those in a body."""
        whole = self.builder.sub(p, self.builder.urem(p, INT64(together)))
        for first, last, rows in ((INT64(0), whole, together), (whole, p, 1)) if together > 1 else ((INT64(0), p, 1),):
            with cgutils.for_range_slice(self.builder, first, last, INT64(rows), intp=INT64) as (row, _):
                yield row, rows

    def rows(self, base, table, count):
        """Return pointers to the first element of each of ``count`` taps."""
        base, table = self.pointer(base), self.builder.inttoptr(table, INT64.as_pointer())
        offsets = [self.builder.load(self.builder.gep(table, [INT64(i)])) for i in range(count)]
        return [self.builder.gep(base, [offset]) for offset in offsets]

    def write(self, pointers, accumulate):
        """Store the sums, plus the old values if ``accumulate`` is set."""
        with self.builder.if_then(accumulate):
            for total, pointer in zip(self.sums, pointers, strict=True):
                self.add(total, self.load(pointer))
        for total, pointer in zip(self.sums, pointers, strict=True):
            self.store(self.builder.load(total), pointer)


class _TapEmitter(_TableEmitter):
    """One accumulator per tap."""

    def __init__(self, builder, taps, rows, lanes, columns):
        super().__init__(builder, taps, lanes, columns)
        self.rows_together = rows

    def emit(self, tile, pixels, accumulate):
        builder = self.builder
        inputs, dy = self.rows(tile.x, tile.x_rows, self.count), self.pointer(tile.dy)
        for row, rows in self.row_loops(pixels.p, self.rows_together):
            with cgutils.for_range(builder, pixels.q, intp=INT64) as column:
                for i in range(rows):
                    self._add_pixel(inputs, dy, builder.add(row, INT64(i)), column.index, pixels)
        self.write(self.rows(tile.dw, tile.dw_rows, self.count), accumulate)

    def _add_pixel(self, inputs, dy, row, column, pixels):
        builder = self.builder
        pixel = builder.add(builder.mul(row, pixels.x_p), builder.mul(column, pixels.x_q))
        dy_here = self.step(self.step(dy, row, pixels.dy_p), column, pixels.dy_q)
        gradient = self.load(dy_here)
        for total, pointer in zip(self.sums, inputs, strict=True):
            self.add_product(total, self.load(builder.gep(pointer, [pixel])), gradient)
        llvm.prefetch(builder, builder.gep(inputs[0], [builder.add(pixel, pixels.x_prefetch)]))
        llvm.prefetch(builder, builder.gep(dy_here, [pixels.dy_prefetch]))


class _WindowEmitter(_TableEmitter):
    """One accumulator per tap. The inputs that a pixel's window shares with the next one's stay in registers."""

    def __init__(self, builder, rows, taps, step, lanes, columns, prefetches):
        super().__init__(builder, rows * taps, lanes, columns)
        self.rows_of_taps, self.taps, self.stride, self.prefetches = rows, taps, step, prefetches
        self.input_rows = sorted({i * step + r for i in range(ROWS) for r in range(rows)})
        self.shared = {
            row: [cgutils.alloca_once(builder, self.vector) for _ in range(taps - step)] for row in self.input_rows
        }

    def emit(self, tile, pixels, accumulate):
        builder = self.builder
        inputs, dy = self.rows(tile.x, tile.x_rows, self.count)[:: self.taps], self.pointer(tile.dy)
        for row, rows in self.row_loops(pixels.p, ROWS):
            x_row = builder.mul(row, pixels.x_p)
            x_rows = {r: builder.gep(pointer, [x_row]) for r, pointer in enumerate(inputs)}
            for r in range((rows - 1) * self.stride + self.rows_of_taps):
                if r in self.input_rows and r not in x_rows:
                    x_rows[r] = builder.gep(x_rows[r - self.stride], [pixels.x_p])
            dy_rows = [self.step(dy, builder.add(row, INT64(i)), pixels.dy_p) for i in range(rows)]
            self._add_rows(x_rows, dy_rows, pixels)
        self.write(self.rows(tile.dw, tile.dw_rows, self.count), accumulate)

    def _add_rows(self, x_rows, dy_rows, pixels):
        """Add the products of one or two rows of pixels."""
        builder, shared = self.builder, self.taps - self.stride
        x_s = builder.udiv(pixels.x_q, INT64(self.stride))
        for row, x in x_rows.items():
            for s, value in enumerate(self.shared[row]):
                builder.store(self.load(self.step(x, INT64(s), x_s)), value)
        with cgutils.for_range(builder, pixels.q, intp=INT64) as column:
            dy_here = [self.step(dy, column.index, pixels.dy_q) for dy in dy_rows]
            first = builder.mul(column.index, INT64(self.stride))
            new = {
                row: [self.step(x, builder.add(first, INT64(s)), x_s) for s in range(shared, self.taps)]
                for row, x in x_rows.items()
            }
            inputs = {
                row: [*map(builder.load, self.shared[row]), *map(self.load, pointers)] for row, pointers in new.items()
            }
            for i, pointer in enumerate(dy_here):
                gradient = self.load(pointer)
                for r in range(self.rows_of_taps):
                    for s in range(self.taps):
                        self.add_product(self.sums[r * self.taps + s], inputs[i * self.stride + r][s], gradient)
            for row, values in inputs.items():
                for value, target in zip(values[self.stride :], self.shared[row], strict=True):
                    builder.store(value, target)
            if self.prefetches:  # the rows that the next chunk is the first to read
                last = [*new.values()][-self.stride * len(dy_rows) :]
                for pointer in (pointer for pointers in last for pointer in pointers):
                    llvm.prefetch(builder, builder.gep(pointer, [pixels.x_prefetch]), level=2)
                for pointer in dy_here:
                    llvm.prefetch(builder, builder.gep(pointer, [pixels.dy_prefetch]), level=2)
