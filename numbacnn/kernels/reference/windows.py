"""The index arithmetic of windows, with which convolutions and pools share one definition."""


def taps(g):
    """Yield (p, q, r, s, row, column): output (p, q) reads pixel (row, column) through tap (r, s) of its window.

    row = p·stride + r·dilation − padding, and so for columns. Taps that fall into the padding are left out: the padding
    is zeros. g: ConvGeometry.
    """
    for p in range(g.p):
        for q in range(g.q):
            for r in range(g.r):
                for s in range(g.s):
                    row = p * g.stride_h + r * g.dilation_h - g.pad_top
                    column = q * g.stride_w + s * g.dilation_w - g.pad_left
                    if 0 <= row < g.h and 0 <= column < g.w:
                        yield p, q, r, s, row, column


def corners(g):
    """Yield (p, q, top, left): the window of output (p, q) starts at pixel (top, left), negative in the padding."""
    for p in range(g.p):
        for q in range(g.q):
            yield p, q, p * g.stride_h - g.pad_top, q * g.stride_w - g.pad_left


def inside(top, left, g):
    """The rows and the columns of the input that the window starting at (top, left) covers."""
    return slice(max(0, top), min(g.h, top + g.r)), slice(max(0, left), min(g.w, left + g.s))


def bins(g):
    """Yield (p, q, rows, columns) of each bin: bin p of P over h pixels is [⌊p·h/P⌋, ⌈(p+1)·h/P⌉)."""
    for p in range(g.p):
        for q in range(g.q):
            rows = slice(p * g.h // g.p, -(-(p + 1) * g.h // g.p))
            columns = slice(q * g.w // g.q, -(-(q + 1) * g.w // g.q))
            yield p, q, rows, columns
