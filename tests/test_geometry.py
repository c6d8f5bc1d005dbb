"""Shape arithmetic matches enumeration: sizes by counting windows, halos by listing the indices that are read."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from numbacnn._checks import pair
from numbacnn.errors import ArgumentError, GeometryError
from numbacnn.geometry import Halo, conv_geometry, freeze_padding, pool_geometry, transposed_geometry
from numbacnn.layers import Conv2DTranspose

axes = st.fixed_dictionaries(
    {
        "size": st.integers(1, 14),
        "window": st.integers(1, 5),
        "stride": st.integers(1, 7),
        "dilation": st.integers(1, 3),
        "padding": st.tuples(st.integers(0, 4), st.integers(0, 4)),
    }
)


def reach(axis):
    return (axis["window"] - 1) * axis["dilation"] + 1


def count(axis, ceil_mode=False):
    """Count the windows inside the padded axis; with ceil_mode, also one that overlaps its end but starts before the
    trailing padding."""
    padded = axis["size"] + sum(axis["padding"])
    starts = range(0, 2 * padded, axis["stride"])
    inside = [start for start in starts if start + reach(axis) <= padded]
    across = [start for start in starts if padded < start + reach(axis) < padded + axis["stride"]]
    across = [start for start in across if start < axis["size"] + axis["padding"][0]]
    return len(inside) + (len(across) if ceil_mode else 0)


def convolution(rows, columns):
    axes = {name: (rows[name], columns[name]) for name in rows}
    size, window, stride, dilation, padding = (
        axes[name] for name in ("size", "window", "stride", "dilation", "padding")
    )
    return conv_geometry((*size, 4), 6, window, stride, padding, dilation, groups=2)


def pooling(rows, columns, ceil_mode):
    window, stride, padding = ((rows[name], columns[name]) for name in ("window", "stride", "padding"))
    return pool_geometry((rows["size"], columns["size"], 3), window, stride, padding, ceil_mode)


@given(axes, axes)
def test_convolution_output_size_is_the_number_of_windows_that_fit(rows, columns):
    p, q = count(rows), count(columns)
    if min(p, q) == 0:
        with pytest.raises(
            GeometryError,
            match=f"window {rows['window']}×{columns['window']}.* exceeds the padded input "
            f"{rows['size'] + sum(rows['padding'])}×{columns['size'] + sum(columns['padding'])}",
        ):
            convolution(rows, columns)  # fmt: skip
        return
    g = convolution(rows, columns)
    assert (g.h, g.w, g.c, g.p, g.q, g.k) == (rows["size"], columns["size"], 4, p, q, 6)
    assert (g.pad_top, g.pad_left, g.groups) == (rows["padding"][0], columns["padding"][0], 2)
    assert g.flops == 2 * p * q * 6 * rows["window"] * columns["window"] * 2


@given(axes, axes, st.booleans())
def test_pooling_output_size_is_the_number_of_windows_that_fit(rows, columns, ceil_mode):
    rows, columns = rows | {"dilation": 1}, columns | {"dilation": 1}
    if max(rows["padding"]) >= rows["window"] or max(columns["padding"]) >= columns["window"]:
        with pytest.raises(GeometryError, match=f"windows of {rows['window']}×{columns['window']} wholly outside"):
            pooling(rows, columns, ceil_mode)
        return
    p, q = count(rows, ceil_mode), count(columns, ceil_mode)
    if min(p, q) == 0:
        with pytest.raises(GeometryError, match=f"window {rows['window']}×{columns['window']} exceeds"):
            pooling(rows, columns, ceil_mode)
        return
    g = pooling(rows, columns, ceil_mode)
    assert (g.p, g.q) == (p, q)
    assert (g.pad_top, g.pad_bottom) == rows["padding"]
    assert (g.pad_left, g.pad_right) == columns["padding"]


@given(axes)
def test_every_pooling_window_contains_a_pixel_of_the_input(axis):
    assume(max(axis["padding"]) < axis["window"])
    for ceil_mode in (False, True):
        axis = axis | {"dilation": 1}
        for output in range(count(axis, ceil_mode)):
            start = output * axis["stride"] - axis["padding"][0]
            if start < axis["size"]:
                assert start + axis["window"] > 0
            else:  # entirely in the trailing padding, but not because of ceil_mode
                assert not ceil_mode or output < count(axis)


@given(st.integers(1, 14), st.integers(1, 5), st.integers(1, 7), st.integers(1, 3))
def test_same_padding_is_minimal_for_the_output_size_with_the_surplus_at_the_end(size, window, stride, dilation):
    g = conv_geometry((size, size, 1), 1, (window, window), (stride, stride), "same", (dilation, dilation))
    output = -(-size // stride)
    assert (g.p, g.q) == (output, output)
    total = next(n for n in range(99) if (output - 1) * stride + (window - 1) * dilation + 1 <= size + n)
    assert (g.pad_top, g.pad_left) == (total // 2, total // 2)
    assert (g.input_halo.bottom, g.input_halo.right) == (total - total // 2, total - total // 2)


def test_same_padding_of_a_pool_has_its_surplus_at_the_bottom_and_right():
    g = pool_geometry((5, 6, 1), (2, 3), (1, 2), "same")
    assert (g.p, g.q) == (5, 3)
    assert (g.pad_top, g.pad_bottom, g.pad_left, g.pad_right) == (0, 1, 0, 1)


def beyond(indices, size):
    """Return how far indices extend before 0 and after size − 1."""
    return max([0, *(-i for i in indices)]), max([0, *(i - size + 1 for i in indices)])


def read_by_forward(axis, outputs):
    return [
        output * axis["stride"] + tap * axis["dilation"] - axis["padding"][0]
        for output in range(outputs)
        for tap in range(axis["window"])
    ]


def read_by_gradient(axis):
    """Return the outputs whose gradients the pixels of the input would read on an infinite axis."""
    starts = [
        pixel + axis["padding"][0] - tap * axis["dilation"]
        for pixel in range(axis["size"])
        for tap in range(axis["window"])
    ]
    return [start // axis["stride"] for start in starts if start % axis["stride"] == 0]


@given(axes, axes)
def test_the_input_halo_is_exactly_the_zeros_that_are_read(rows, columns):
    assume(min(count(rows), count(columns)) > 0)
    g = convolution(rows, columns)
    expected = *beyond(read_by_forward(rows, g.p), g.h), *beyond(read_by_forward(columns, g.q), g.w)
    assert g.input_halo == expected


@given(axes, axes)
def test_the_gradient_halo_is_exactly_the_zeros_that_are_read(rows, columns):
    assume(min(count(rows), count(columns)) > 0)
    g = convolution(rows, columns)
    for halo, axis, outputs in ((g.gradient_halo[:2], rows, g.p), (g.gradient_halo[2:], columns, g.q)):
        needed = beyond(read_by_gradient(axis), outputs)
        assert all(has >= need for has, need in zip(halo, needed, strict=True))
        if axis["size"] >= axis["stride"]:  # the pixels have every remainder modulo the stride
            assert halo == needed


def test_halo_union_contains_both():
    assert Halo(1, 0, 2, 0).union(Halo(0, 3, 1, 0)) == Halo(1, 3, 2, 0)


@pytest.mark.parametrize(
    ("padding", "expected"),
    [
        ("same", "same"),
        (2, 2),
        ((1, 2), ((1, 1), (2, 2))),
        ([[1, 2], [0, 3]], ((1, 2), (0, 3))),
        ((1, (0, 2)), ((1, 1), (0, 2))),
    ],
)
def test_padding_has_three_normal_forms(padding, expected):
    assert freeze_padding(padding) == expected


@pytest.mark.parametrize(
    "padding", ["full", -1, 0.5, None, (1, -1), (1, "2"), ((1, 2), (0, -3)), (1, 2, 3), ((1, 2, 3), 1)]
)
def test_other_paddings_are_rejected_with_the_remedy(padding):
    with pytest.raises(ArgumentError, match=r'padding=.*"same"'):
        freeze_padding(padding)


@pytest.mark.parametrize("value", [0, -1, 1.5, None, (1,), (1, 0), (1, 2, 3), "33"])
def test_pairs_are_integers_of_at_least_one(value):
    with pytest.raises(ArgumentError, match="stride="):
        pair(value, "stride")


def test_groups_must_divide_channels_and_filters():
    with pytest.raises(GeometryError, match=r"groups=3 must divide both the 4 input channels and the 6 filters"):
        conv_geometry((5, 5, 4), 6, (3, 3), groups=3)


def test_features_are_not_an_image():
    with pytest.raises(GeometryError, match=r"must be an image .*\(7,\)"):
        conv_geometry((7,), 6, (3, 3))


@given(axes, axes, st.integers(0, 6), st.integers(0, 6))
def test_transposed_convolution_inverts_the_size_of_a_convolution(rows, columns, below, right):
    """A convolution of the output has the sizes of the input."""
    stride, dilation = ((rows[name], columns[name]) for name in ("stride", "dilation"))
    window, padding = ((rows[name], columns[name]) for name in ("window", "padding"))
    extra = min(below, stride[0] - 1), min(right, stride[1] - 1)
    shape = rows["size"], columns["size"], 4
    try:
        g = transposed_geometry(shape, 6, window, stride, padding, extra, dilation, groups=2)
    except GeometryError as error:
        assert "use less padding" in str(error)  # noqa: PT017 (whether it is raised depends on the sizes)
        return
    assert g == conv_geometry((g.h, g.w, 6), 4, window, stride, padding, dilation, groups=2)
    assert g.h == sum((rows["size"] - 1) * [stride[0]]) + reach(rows) - sum(padding[0]) + extra[0]


@given(st.integers(1, 9), st.integers(1, 5), st.integers(1, 5), st.integers(1, 3))
def test_same_padding_of_a_transposed_convolution_multiplies_sizes(size, window, stride, dilation):
    g = transposed_geometry((size, 1, 1), 1, (window, 1), (stride, 1), "same", dilation=(dilation, 1))
    assert (g.h, g.w) == (size * stride, 1)
    assert g == conv_geometry((g.h, 1, 1), 1, (window, 1), (stride, 1), "same", (dilation, 1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output_padding": 2, "stride": 2}, r"output_padding=\(2, 2\): must be less than the stride \(2, 2\)"),
        ({"output_padding": 1, "stride": 2, "padding": "same"}, 'padding="same" gives the output its size'),
        ({"output_padding": -1}, "output_padding=-1: pass one integer"),
        ({"groups": 0}, "groups=0"),
    ],
)
def test_arguments_of_a_transposed_convolution_are_checked(options, message):
    with pytest.raises(ArgumentError, match=message):
        Conv2DTranspose(4, 3, **options)
