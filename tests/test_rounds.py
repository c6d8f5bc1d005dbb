"""Kernels that process a batch in rounds, or pixels in chunks and groups, so that their operands stay in cache."""

import numpy as np
import pytest
from engine import assert_results_close, assert_same_bits, normals, oracle, output_shapes, randomize, run
from graphs import listed

import numbacnn as nc
from numbacnn.engine.locks import engine_lock
from numbacnn.engine.plan import make_plan
from numbacnn.geometry import conv_geometry
from numbacnn.kernels.cpu.conv import blocked, col2im
from numbacnn.kernels.cpu.conv.direct import forward, input_gradient, loops, weight_gradient
from numbacnn.kernels.cpu.conv.pixel_pairs import PixelPairs
from numbacnn.kernels.cpu.conv.winograd import winograd
from numbacnn.kernels.cpu.gemm.gemm import LANES, blocking_of
from numbacnn.layers.algorithms import ConvEpilogue

SHAPE, BATCH = (13, 14, 64), 6
TILES = "forward.tiles", "input_gradient.tiles", "weight_gradient.x_tiles", "weight_gradient.dy_tiles"
LAYERS = {  # the layer, the module whose rounds it runs in, and the scratch that these make smaller
    "winograd2": (lambda: nc.Conv2D(66, 3, padding=1, algorithm="winograd2"), winograd, TILES),
    "winograd2, 5×5": (lambda: nc.Conv2D(66, 5, algorithm="winograd2"), winograd, TILES),
    "winograd4": (lambda: nc.Conv2D(66, 3, padding=1, algorithm="winograd4"), winograd, TILES),
    "blocked": (lambda: nc.Conv2D(66, 2, stride=2), blocked, ("weight_gradient.copies",)),
    "blocked, 1×1": (lambda: nc.Conv2D(66, 1, stride=2), blocked, ("weight_gradient.copies",)),
}
LARGE = {  # few images: more rows than groups, several chunks, panels and blocks of rows
    "pointwise": (lambda: nc.Conv2D(40, 1), (75, 75, 5)),
    "pointwise, many channels": (lambda: nc.Conv2D(300, 1, stride=(2, 1)), (9, 40, 270)),
    "a window": (lambda: nc.Conv2D(70, 3, stride=2, padding=2), (70, 66, 3)),
    "a wide image": (lambda: nc.Conv2D(9, (1, 2), padding="same"), (1, 1100, 2)),
    "a tall image": (lambda: nc.Conv2D(3, 1), (1100, 1, 2)),
}


def results(model, batch=BATCH):
    draw = np.random.default_rng(0)
    randomize(model, draw)
    xs, dys = normals(draw, model.graph.input_shapes, batch), normals(draw, output_shapes(model), batch)
    return run(model, xs, dys), oracle(model, xs, dys)


def scratch(model, batch=BATCH):
    """{name: floats} of the scratch of the only layer."""
    plan = make_plan(model.graph, model.device.sizes, batch, training=True, input_gradient=True)
    steps = [*plan.forward, *plan.backward]
    return {name: np.prod(scratch.part.shape) for step in steps for name, scratch in step.scratch.items()}


@pytest.mark.parametrize("name", LAYERS)
def test_rounds_of_single_images_match_one_round(monkeypatch, name):
    """Bit by bit, except for weight gradients, which are rounded after each round and compared with float64."""
    make, module, buffers = LAYERS[name]
    monkeypatch.setattr(blocked, "MIN_REUSE", 0)
    monkeypatch.setattr(blocked, "GROUP_WEIGHTS", 0)
    model = listed(nc.Sequential([make()], SHAPE))
    monkeypatch.setattr(module, "ROUND_BYTES", 1 << 30)
    whole, _ = results(model)
    large = scratch(model)
    monkeypatch.setattr(module, "ROUND_BYTES", 1)
    model = listed(nc.Sequential([make()], SHAPE))
    found, expected = results(model)
    small = scratch(model)
    for buffer in buffers:
        assert small[buffer] < large[buffer]
    assert_same_bits(found._replace(gradients={}), whole._replace(gradients={}), name)
    assert_results_close(found, expected, name)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("batch", [1, 3])
def test_groups_of_rows_have_sums_of_their_own(monkeypatch, groups, batch):
    """Weight gradients of 1×1 windows, in several chunks of rows of each group."""
    launched, kernel = [], blocked._sum_row_groups
    monkeypatch.setattr(blocked, "_sum_row_groups", lambda *arguments: launched.append(arguments) or kernel(*arguments))
    monkeypatch.setattr(blocked, "GROUPS", 5)
    monkeypatch.setattr(blocked, "GROUP_FLOATS", 1 << 14)
    layer = nc.Conv2D(70 * groups, 1, stride=(2, 1), padding=((0, 1), (2, 0)), groups=groups)
    found, expected = results(listed(nc.Sequential([layer], (45, 17, 300 * groups))), batch)
    assert len(launched) == groups
    for partial, *_, rows_at_once, g in launched:
        assert len(partial) == 5
        assert rows_at_once < batch * g.p // 5, "several chunks"
    assert_results_close(found, expected, "groups of rows")


COLUMNS = {  # convolutions of few channels, and their images
    "strides": (lambda: nc.Conv2D(9, (3, 5), stride=(2, 3), padding=2), (61, 40, 3)),
    "a stride over the window": (lambda: nc.Conv2D(5, 2, stride=3), (60, 31, 8)),
    "dilation": (lambda: nc.Conv2D(4, 3, padding=((0, 3), (2, 1)), dilation=2), (100, 23, 5)),
    "one channel": (lambda: nc.Conv2D(6, 5, padding=2), (81, 70, 1)),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_bands_of_an_image_and_blocks_of_columns(monkeypatch, name):
    """The same bits in one band and in several; in smaller blocks, terms are added in another order."""
    make, shape = COLUMNS[name]
    g = listed(nc.Sequential([make()], shape)).graph.nodes[0].geometry
    assert col2im.Col2Im().applies("input_gradient", g, None)
    found = {}
    for bands, pixels in ((16, 1000), (1, 1000), (16, 4), (16, 1)):
        monkeypatch.setattr(col2im, "GROUPS", bands)
        monkeypatch.setattr(col2im, "COLUMN_FLOATS", pixels * g.r * g.s * g.c)
        blocks = col2im._blocks(g, 2)
        assert (blocks.bands > 1, blocks.columns) == (bands > 1, min(pixels, g.q))
        found[bands, pixels], expected = results(listed(nc.Sequential([make()], shape)), batch=2)
        assert_results_close(found[bands, pixels], expected, name)
    assert g.q % 4, "the last block of four columns has some of the one before"
    assert_same_bits(found[16, 1000], found[1, 1000], name)


def test_columns_are_added_to_some_channels_of_an_image():
    """A gradient whose pixels are not contiguous; the other channels stay as they are. Windows overlap along columns.

    Pixels are then added one by one, and rounded in another order.
    """
    draw, g = np.random.default_rng(0), conv_geometry((9, 11, 3), 4, (2, 3), (2, 1), "same")
    dy, w = draw.standard_normal((2, g.p, g.q, g.k), np.float32), draw.standard_normal((2, 3, 3, 4), np.float32)
    whole, dx = np.empty((2, 9, 11, 3), np.float32), np.ones((2, 9, 11, 6), np.float32)
    for target in (whole, dx[..., 2:5]):
        scratch = {
            name: np.empty(s.shape, np.float32) for name, s in col2im.Col2Im().scratch("input_gradient", g, 2).items()
        }
        with engine_lock:
            col2im.Col2Im().input_gradient(target, dy, w, scratch, g, ConvEpilogue())
    assert np.all(dx[..., :2] == 1)
    assert np.all(dx[..., 5:] == 1)
    np.testing.assert_allclose(dx[..., 2:5], whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layers", [
    lambda: [nc.Conv2D(20, 3, padding="same", algorithm="winograd4"), nc.ReLU(),
             nc.Conv2D(35, 3, padding=1, algorithm="winograd2")],
    lambda: [nc.Conv2D(20, 3, padding=2, algorithm="winograd4"), nc.ReLU(),
             nc.Conv2D(9, 5, algorithm="winograd2"), nc.ReLU()],
])  # fmt: skip
def test_blocks_of_tiles_have_the_bits_of_rounds(monkeypatch, layers):
    """Outputs with bias and ReLU, and gradients of inputs with ReLU's mask; more blocks than full ones."""
    blocks, kernel = [], winograd.block_kernel
    monkeypatch.setattr(winograd, "block_kernel", lambda f: blocks.append(f) or kernel(f))
    found, expected = results(listed(nc.Sequential(layers(), (13, 14, 33))), batch=17)
    assert len(blocks) >= 4, "two layers forward, and two gradients of inputs"
    assert_results_close(found, expected, "blocks")
    in_blocks = len(blocks)
    monkeypatch.setattr(winograd, "MIN_BLOCKS", 1 << 30)
    rounds, _ = results(listed(nc.Sequential(layers(), (13, 14, 33))), batch=17)
    assert len(blocks) < 2 * in_blocks, "only channels that fill no panel still run in blocks"
    assert_same_bits(found._replace(gradients={}), rounds._replace(gradients={}), "rounds")


@pytest.mark.parametrize("window", [3, 5])
@pytest.mark.parametrize(("channels", "filters", "in_scratch"), [(20, 35, False), (64, 34, True), (17, 112, True)])
def test_weight_gradients_in_blocks_match_the_oracle(monkeypatch, channels, filters, in_scratch, window):
    """Groups of several blocks, and a group that is not full; sums on the stack, or in scratch if they are many."""
    blocks, kernel = [], winograd.block_gradient_kernel
    monkeypatch.setattr(winograd, "block_gradient_kernel", lambda f: blocks.append(f) or kernel(f))
    layer = nc.Conv2D(filters, window, padding=1, algorithm="winograd2" if window == 5 else "winograd4")
    model = listed(nc.Sequential([layer], (13, 14, channels)))
    for batch in (40, 1):
        found, expected = results(model, batch)
        assert_results_close(found, expected, f"{batch} images")
    assert len(blocks) == 2
    assert (scratch(model, 40)["weight_gradient.sums"] > 0) == in_scratch


def test_few_images_run_in_rounds_in_a_plan_for_blocks():
    """Scratch has room for the tiles of the images that are too few for blocks, and for no more."""
    model = listed(nc.Sequential([nc.Conv2D(32, 3, padding=1)], (13, 14, 40)))
    few = scratch(model, 1)["forward.tiles"]
    assert scratch(model, 40)["forward.tiles"] <= 8 * few, "7 images of 16 tiles are fewer than 16 blocks of 8"
    found = [results(model, batch) for batch in (1, 7, 8, 40)]
    for batch, (result, expected) in zip((1, 7, 8, 40), found, strict=True):
        assert_results_close(result, expected, f"{batch} images")
        assert_same_bits(results(model, batch)[0], result, f"{batch} images, in the buffers for 40")


@pytest.mark.parametrize("batch", [1, 5])
def test_weights_larger_than_images_match_the_oracle(monkeypatch, batch):
    """Few rows of C, whose items go along the rows: with bias and ReLU, and ReLU's mask in the input gradient."""
    made = []
    for module in (forward, input_gradient):
        monkeypatch.setattr(module, "blocking_of", lambda *sizes: made.append(blocking_of(*sizes)) or made[-1])
    wide = nc.Conv2D(300, 3, padding=1, algorithm="direct")
    model = listed(nc.Sequential([nc.Conv2D(160, 1), nc.ReLU(), wide, nc.ReLU()], (6, 7 + batch, 3)))
    found, expected = results(model, batch)
    assert sum(blocking.rows_first for blocking in made) >= 2
    assert_results_close(found, expected, f"{batch} images")


PACKED = {  # the layer, its input, and the packed weights that go in rounds
    "dense": (lambda: nc.Dense(150), (133,), ("packed",)),
    "dense, no bias": (lambda: nc.Dense(193, bias=False), (70,), ("packed",)),
    "convolution": (lambda: nc.Conv2D(9, 3, stride=2, padding=1), (7, 6, 70), ("input_gradient.packed",)),
    "transposed": (lambda: nc.Conv2DTranspose(70, 3, stride=2), (4, 5, 9), ("input_gradient.packed",)),
}


@pytest.mark.parametrize("name", PACKED)
def test_rounds_of_packed_weights_match_the_oracle(monkeypatch, name):
    """One panel of channels at a time, whose products are added, or written side by side."""
    make, shape, buffers = PACKED[name]
    large = scratch(listed(nc.Sequential([make()], shape)))
    monkeypatch.setattr(loops, "ROUND_BYTES", 1)
    model = listed(nc.Sequential([make()], shape))
    small = scratch(model)
    for buffer in buffers:
        assert small[buffer] < large[buffer]
    assert_results_close(*results(model), name)


def test_pixel_pairs_are_preferred_to_the_blocked_layout(monkeypatch):
    """Pairs are preferred even with many channels: their GEMM and its scratch differ from those of an image of x."""
    monkeypatch.setattr(blocked, "MIN_REUSE", 0)
    model = listed(nc.Sequential([nc.Conv2D(LANES // 2, 3, padding=1)], SHAPE))
    assert PixelPairs().applies("forward", model.graph.nodes[0].geometry, None)
    assert_results_close(*results(model), "pairs")


@pytest.mark.parametrize("name", LARGE)
def test_few_large_images_match_the_oracle_in_any_plan(name):
    """The second model has run a larger batch, which is cut into groups of images, in the same buffers."""
    make, shape = LARGE[name]
    found, expected = results(listed(nc.Sequential([make()], shape)), batch=2)
    assert_results_close(found, expected, name)
    model = listed(nc.Sequential([make()], shape))
    y = model.forward(normals(np.random.default_rng(1), [shape], 34), training=True)
    model.backward(y)
    again, _ = results(model, batch=2)
    assert_same_bits(again, found, name)


def test_few_terms_of_large_images_match_the_oracle(monkeypatch):
    """In short passes, whose next pixels are prefetched; the last rows of dw fill half a microkernel."""

    def results_of_pass():
        return results(listed(nc.Sequential([nc.Conv2D(70, 3, padding=1)], (70, 66, 3))))

    whole, _ = results_of_pass()
    monkeypatch.setattr(weight_gradient, "MIN_MEMORY_BYTES", 0)
    found, expected = results_of_pass()
    assert_results_close(found, expected, "few terms")
    assert any(not np.array_equal(found.gradients[name], whole.gradients[name]) for name in found.gradients)


def test_bits_of_a_shard_do_not_depend_on_those_summed_with_it(monkeypatch):
    """Also if two shards are large enough for short passes, and one is not."""
    geometry = listed(nc.Sequential([nc.Conv2D(24, 3, padding=1)], (40, 40, 3))).graph.nodes[0].geometry
    draw = np.random.default_rng(0)
    x, dy = np.zeros((4, 42, 42, 3), np.float32), draw.standard_normal((4, 40, 40, 24), np.float32)
    x[:, 1:41, 1:41] = draw.standard_normal((4, 40, 40, 3), np.float32)
    monkeypatch.setattr(weight_gradient, "MIN_MEMORY_BYTES", 2 * (x[0, 1:41, 1:41].nbytes + dy[0].nbytes))
    monkeypatch.setattr(weight_gradient, "sum_shards", lambda dw, partial: None)
    together, dw = np.empty((4, 1, 27, 24), np.float32), np.empty((3, 3, 3, 24), np.float32)
    weight_gradient.sharded_weight_gradient(dw, x[:, 1:41, 1:41], dy, together, geometry, [0, 1, 2, 3, 4])
    passes = {weight_gradient.choose_pass(geometry, images) for images in (1, 2)}
    assert passes == {weight_gradient.WINDOWED, weight_gradient.FEW_TERMS}
    for i in range(4):
        own, image, gradient = np.empty_like(dw), x[i : i + 1, 1:41, 1:41], dy[i : i + 1]
        weight_gradient.sharded_weight_gradient(own, image, gradient, together, geometry, [0, 1])
        assert np.array_equal(own.reshape(27, 24), together[i, 0]), i
