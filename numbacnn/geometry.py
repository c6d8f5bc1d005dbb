"""Shape arithmetic of windowed operations: output sizes, padding and halos are computed only here.

Sizes are per image, without the batch: ``h w c`` of the input, ``p q k`` of the output, ``r s`` of the window.
Output size: ``floor((I + P_lo + P_hi - D·(K-1) - 1) / S) + 1`` (Dumoulin and Visin 2016, "A guide to convolution
arithmetic for deep learning", relationship 15).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from numbacnn._checks import format_shape, shown
from numbacnn.errors import ArgumentError, GeometryError

Shape = tuple[int, ...]
MAX_STRIDE = (1 << 31) - 1  # times the size of an image it is an offset, of 64 bits
Padding = str | int | Sequence[int] | Sequence[Sequence[int]]
FrozenPadding = str | int | tuple[tuple[int, int], tuple[int, int]]


class Halo(NamedTuple):
    """Rows and columns of zeros that a buffer keeps around each image."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0

    def union(self, other: "Halo") -> "Halo":
        """Return the smallest halo that contains both."""
        return Halo(*map(max, self, other))


NO_HALO = Halo()


class ConvGeometry(NamedTuple):
    """A convolution of h×w×c images to p×q×k by an r×s window; channels split into ``groups``."""

    h: int
    w: int
    c: int
    p: int
    q: int
    k: int
    r: int
    s: int
    stride_h: int = 1
    stride_w: int = 1
    dilation_h: int = 1
    dilation_w: int = 1
    pad_top: int = 0
    pad_left: int = 0
    groups: int = 1

    @property
    def input_halo(self) -> Halo:
        """Zeros around x that the windows reach, and no more."""
        bottom = (self.p - 1) * self.stride_h + (self.r - 1) * self.dilation_h - self.pad_top - (self.h - 1)
        right = (self.q - 1) * self.stride_w + (self.s - 1) * self.dilation_w - self.pad_left - (self.w - 1)
        return Halo(self.pad_top, max(0, bottom), self.pad_left, max(0, right))

    @property
    def gradient_halo(self) -> Halo:
        """Zeros around dy that the input gradient reads: outputs before the first and after the last."""
        top = ((self.r - 1) * self.dilation_h - self.pad_top) // self.stride_h
        left = ((self.s - 1) * self.dilation_w - self.pad_left) // self.stride_w
        bottom = (self.h - 1 + self.pad_top) // self.stride_h - (self.p - 1)
        right = (self.w - 1 + self.pad_left) // self.stride_w - (self.q - 1)
        return Halo(max(0, top), max(0, bottom), max(0, left), max(0, right))

    @property
    def winograd_tiles(self) -> tuple[int, ...]:
        """Sizes of Winograd's output tiles, for square windows over all channels with a stride of 1; else empty."""
        steps = self.stride_h, self.stride_w, self.dilation_h, self.dilation_w, self.groups
        plain = self.r == self.s and set(steps) == {1}
        return {3: (2, 4), 5: (2,)}.get(self.r, ()) if plain else ()

    @property
    def flops(self) -> int:
        """Floating-point operations of a direct forward pass on one image, a multiply-add counted as two."""
        return 2 * self.p * self.q * self.k * self.r * self.s * (self.c // self.groups)


class PoolGeometry(NamedTuple):
    """Pooling of h×w×c images to p×q×c by an r×s window. Only averages use ``pad_bottom`` and ``pad_right``."""

    h: int
    w: int
    c: int
    p: int
    q: int
    r: int
    s: int
    stride_h: int
    stride_w: int
    pad_top: int = 0
    pad_left: int = 0
    pad_bottom: int = 0
    pad_right: int = 0
    count_include_pad: bool = True


class AdaptiveGeometry(NamedTuple):
    """Pooling of h×w×c images into p×q bins: bin p covers the rows from ⌊p·h/P⌋ to ⌈(p+1)·h/P⌉ − 1."""

    h: int
    w: int
    c: int
    p: int
    q: int


class UpSampleGeometry(NamedTuple):
    """Enlargement of h×w×c images to p×q by integer factors."""

    h: int
    w: int
    c: int
    p: int
    q: int
    factor_h: int
    factor_w: int


class ResizeAxis(NamedTuple):
    """The size of an axis before and after resizing. Output i is at (i + offset) · numerator / denominator + shift.

    That position, in inputs, is rounded up or down if not ``linear``.
    """

    size: int
    outputs: int
    numerator: float
    denominator: float
    offset: float
    shift: float
    linear: bool
    up: bool


class ResizeGeometry(NamedTuple):
    """Images h×w×c that become p×q×c: the fields of two ``ResizeAxis``, since kernels take no nested tuples."""

    h: int
    w: int
    c: int
    p: int
    q: int
    numerator_h: float
    numerator_w: float
    denominator_h: float
    denominator_w: float
    offset_h: float
    offset_w: float
    shift_h: float
    shift_w: float
    linear: bool
    up: bool

    @property
    def axes(self) -> tuple[ResizeAxis, ResizeAxis]:
        """Rows and columns."""
        rows = self.numerator_h, self.denominator_h, self.offset_h, self.shift_h
        columns = self.numerator_w, self.denominator_w, self.offset_w, self.shift_w
        return (
            ResizeAxis(self.h, self.p, *rows, self.linear, self.up),
            ResizeAxis(self.w, self.q, *columns, self.linear, self.up),
        )


def freeze_padding(padding: Padding) -> FrozenPadding:
    """Return padding in one of three forms: "same" or "valid", an int, or ((top, bottom), (left, right))."""
    remedy = 'use "valid", "same", an integer, (height, width) or ((top, bottom), (left, right)), none negative'
    if isinstance(padding, str):
        if padding not in ("valid", "same"):
            raise ArgumentError(f"padding={shown(padding)}: {remedy}")
        return padding
    axes = padding if isinstance(padding, Sequence) else (padding, padding)
    sides: list[tuple[Any, ...]] = [tuple(side) if isinstance(side, Sequence) else (side, side) for side in axes]
    if [len(side) for side in sides] != [2, 2] or not all(
        isinstance(n, int) and 0 <= n < 1 << 31 for n in [*sides[0], *sides[1]]
    ):
        raise ArgumentError(f"padding={shown(padding)}: {remedy}")
    if isinstance(padding, int):
        return int(padding)
    (top, bottom), (left, right) = (map(int, side) for side in sides)
    return (top, bottom), (left, right)


def padding_halo(padding: Padding) -> Halo:
    """Return explicit padding, or the absence of any for "valid", as a halo."""
    frozen = freeze_padding(padding)
    if isinstance(frozen, int):
        return Halo(*[frozen] * 4)
    return NO_HALO if isinstance(frozen, str) else Halo(*frozen[0], *frozen[1])


def conv_geometry(
    input_shape: Shape,
    filters: int,
    window: tuple[int, int],
    stride: tuple[int, int] = (1, 1),
    padding: Padding = "valid",
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> ConvGeometry:
    """Return the geometry of a convolution over (h, w, c) images. Raises GeometryError if it is impossible."""
    h, w, c = image_shape(input_shape)
    _check_groups(c, filters, groups)
    halo = _halo((h, w), window, stride, padding, dilation)
    p = _output_size(h, window[0], stride[0], dilation[0], halo.top + halo.bottom)
    q = _output_size(w, window[1], stride[1], dilation[1], halo.left + halo.right)
    if min(p, q) < 1:
        raise _too_large((h, w), window, dilation, halo)
    return ConvGeometry(h, w, c, p, q, filters, *window, *stride, *dilation, halo.top, halo.left, groups)


def transposed_geometry(
    input_shape: Shape,
    filters: int,
    window: tuple[int, int],
    stride: tuple[int, int] = (1, 1),
    padding: Padding = "valid",
    output_padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> ConvGeometry:
    """Return the geometry of the convolution from p×q×filters to h×w×c whose transpose maps (h, w, c) images.

    Output size: (I − 1)·S − P_lo − P_hi + D·(K − 1) + 1 + output padding (Dumoulin and Visin 2016, relationship 14);
    with "same" padding I·S. Raises GeometryError if it is not positive.
    """
    h, w, c = image_shape(input_shape)
    _check_groups(c, filters, groups)
    p, q = h * stride[0], w * stride[1]
    halo = _halo((p, q), window, stride, padding, dilation)
    if padding != "same":
        p -= stride[0] + halo.top + halo.bottom - dilation[0] * (window[0] - 1) - 1 - output_padding[0]
        q -= stride[1] + halo.left + halo.right - dilation[1] * (window[1] - 1) - 1 - output_padding[1]
    if min(p, q) < 1:
        raise GeometryError(
            f"padding {halo[:2]}, {halo[2:]} leaves {p}×{q} of the output of {h}×{w} pixels and a window "
            f"{format_shape(window)}; use less padding"
        )
    return ConvGeometry(p, q, filters, h, w, c, *window, *stride, *dilation, halo.top, halo.left, groups)


def pool_geometry(
    input_shape: Shape,
    window: tuple[int, int],
    stride: tuple[int, int],
    padding: Padding = "valid",
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> PoolGeometry:
    """Return the geometry of pooling over (h, w, c) images. Raises GeometryError if it is impossible.

    With ``ceil_mode`` the output size is rounded up, and windows that would start beyond the input and its leading
    padding are dropped, as in PyTorch.
    """
    h, w, c = image_shape(input_shape)
    halo = _halo((h, w), window, stride, padding, (1, 1))
    top, bottom, left, right = halo
    if max(top, bottom) >= window[0] or max(left, right) >= window[1]:
        raise GeometryError(
            f"padding {top, bottom}, {left, right} leaves windows of {format_shape(window)} wholly outside the input; "
            "use padding smaller than the window"
        )
    p = _output_size(h, window[0], stride[0], 1, top + bottom, ceil_mode, top)
    q = _output_size(w, window[1], stride[1], 1, left + right, ceil_mode, left)
    if min(p, q) < 1:
        raise _too_large((h, w), window, (1, 1), halo)
    return PoolGeometry(h, w, c, p, q, *window, *stride, top, left, bottom, right, count_include_pad)


def image_shape(shape: Shape) -> tuple[int, int, int]:
    """Return ``shape`` as (height, width, channels). Raises GeometryError if it is not an image's."""
    if len(shape) != 3:
        raise GeometryError(f"input must be an image (height, width, channels), not {shape}; is a Flatten before it?")
    return shape[0], shape[1], shape[2]


def as_image(shape: Shape) -> tuple[int, int, int]:
    """Return ``shape`` as (height, width, channels); features (c,) are an image of one pixel."""
    h, w, c = (1, 1, *shape) if len(shape) == 1 else shape
    return h, w, c


def _check_groups(channels: int, filters: int, groups: int) -> None:
    if channels % groups or filters % groups:
        raise GeometryError(f"groups={groups} must divide both the {channels} input channels and the {filters} filters")


def _halo(
    size: tuple[int, int], window: tuple[int, int], stride: tuple[int, int], padding: Padding, dilation: tuple[int, int]
) -> Halo:
    if freeze_padding(padding) != "same":
        return padding_halo(padding)
    rows, columns = (_same(*axis) for axis in zip(size, window, stride, dilation, strict=True))
    return Halo(*rows, *columns)


def _same(size: int, window: int, stride: int, dilation: int) -> tuple[int, int]:
    """Return the padding for an output of ceil(size / stride); an odd surplus goes to the far side."""
    output = -(-size // stride)
    total = max(0, (output - 1) * stride + (window - 1) * dilation + 1 - size)
    return total // 2, total - total // 2


def _output_size(
    size: int, window: int, stride: int, dilation: int, padding: int, ceil_mode: bool = False, leading: int = 0
) -> int:
    room = size + padding - dilation * (window - 1) - 1
    if not ceil_mode:
        return room // stride + 1
    output = -(-room // stride) + 1
    starts_in_padding = (output - 1) * stride >= size + leading
    return output - starts_in_padding


def _too_large(size: tuple[int, int], window: tuple[int, int], dilation: tuple[int, int], halo: Halo) -> GeometryError:
    reach = [(extent - 1) * step + 1 for extent, step in zip(window, dilation, strict=True)]
    padded = size[0] + halo.top + halo.bottom, size[1] + halo.left + halo.right
    dilated = f" ({format_shape(reach)} with its dilation)" if max(dilation) > 1 else ""
    return GeometryError(
        f"window {format_shape(window)}{dilated} exceeds the padded input {format_shape(padded)}; "
        'use padding="same" or a smaller window'
    )
