"""Dropout: its random numbers against published ones, and the properties of its masks."""

import numpy as np
import pytest
from engine import KEY, Fixed, draw_again, run_planned

import numbacnn as nc
from numbacnn.engine.plan import make_plan
from numbacnn.kernels import scalar
from numbacnn.kernels.reference.random import philox as reference_philox

LAYERS = [nc.Dropout, nc.SpatialDropout]
both = pytest.mark.parametrize("layer", LAYERS)
ALL = 2**32 - 1
# counter, key and words of Random123's published tests of philox4x32 with 10 rounds
PUBLISHED = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ALL,) * 4, (ALL,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0),
     (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
]  # fmt: skip


def model(layer, shape=(9, 10, 7), rate=0.3, name="drop"):
    return nc.Sequential([layer(rate, name=name)], shape)


def factors(net, n=3, step=KEY[1], seed=KEY[0]):
    """Return the factors by which the layer multiplies in this step."""
    net.store.set_random(seed, step - 1)
    return net.forward(np.ones((n, *net.input_shape), np.float32), training=True)


@pytest.mark.parametrize(("counter", "key", "words"), PUBLISHED)
def test_philox_gives_the_published_words(counter, key, words):
    assert tuple(scalar.philox(*map(np.uint64, counter + key))) == words
    assert tuple(reference_philox(counter, key)) == words


# -- masks ------------------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_dropped_fraction_is_the_rate_and_the_rest_is_scaled_exactly(layer, rate):
    drawn = factors(model(layer, (4, 5, 500), rate), 40)
    if layer is nc.SpatialDropout:
        np.testing.assert_array_equal(drawn, np.broadcast_to(drawn[:, :1, :1], drawn.shape))
        drawn = drawn[:, 0, 0]
    assert set(np.unique(drawn)) == {np.float32(0), np.float32(1 / (1 - rate))}
    error = np.sqrt(rate * (1 - rate) / drawn.size)
    assert abs((drawn == 0).mean() - rate) <= 4 * error
    for axis in range(drawn.ndim):  # no image, row, column or channel is dropped more than the others
        others = tuple(i for i in range(drawn.ndim) if i != axis)
        shares = (drawn == 0).mean(others)
        assert np.abs(shares - rate).max() <= 5 * error * np.sqrt(drawn.shape[axis])


@both
def test_steps_seeds_and_names_draw_independent_masks(layer):
    """Any two masks agree in as many elements as by chance, a fraction of rate² + (1 − rate)²."""
    rate, net = 0.3, model(layer, (2, 2, 2000))
    masks = [factors(net, 8, *key)[:, 0, 0] != 0 for key in ((1,), (2,), (2**32 + 1,), (1, 1), (1, 2**32))]
    masks.append(factors(model(layer, (2, 2, 2000), name="other"), 8, 1)[:, 0, 0] != 0)
    masks.append(np.roll(masks[0], 1, 1))
    masks.append(np.roll(masks[0], 1, 0))
    chance = rate**2 + (1 - rate) ** 2
    error = np.sqrt(chance * (1 - chance) / masks[0].size)
    for i, mask in enumerate(masks):
        for j in range(i):
            expected = 1.0 if (i, j) == (2, 0) else chance  # steps count modulo 2³²
            assert abs((mask == masks[j]).mean() - expected) <= 5 * error, (i, j)


@both
def test_an_image_has_its_mask_whatever_the_batch(layer):
    whole = factors(model(layer), 7)
    for n in (1, 4, 7):
        np.testing.assert_array_equal(factors(model(layer), n), whole[:n])


@both
def test_every_training_forward_draws_a_new_mask_and_models_of_one_seed_draw_the_same(layer):
    x = np.ones((2, 9, 10, 7), np.float32)
    first, second = ([net.forward(x, training=True) for _ in range(3)] for net in (model(layer), model(layer)))
    for y, again in zip(first, second, strict=True):
        np.testing.assert_array_equal(y, again)
    assert (first[0] != first[1]).any()
    assert (first[1] != first[2]).any()
    other = nc.Sequential([layer(0.3, name="drop")], (9, 10, 7), seed=1)
    assert (other.forward(x, training=True) != first[0]).any()


# -- forward and backward ---------------------------------------------------------------------------------------------


@both
def test_backward_drops_what_forward_did(layer, rng):
    net = model(layer)
    x, dy = rng.standard_normal((2, 5, 9, 10, 7)).astype(np.float32)
    for _ in range(3):
        y = net.forward(x, training=True)
        net.forward(2 * x)  # inference between draws nothing
        scale = np.float32(1 / 0.7)
        np.testing.assert_array_equal(y, np.where(y == 0, 0, x * scale))
        np.testing.assert_array_equal(net.backward(dy), np.where(y == 0, 0, dy * scale))


@both
def test_inference_changes_nothing_and_copies_nothing(layer, rng):
    net, x = model(layer), rng.standard_normal((5, 9, 10, 7)).astype(np.float32)
    np.testing.assert_array_equal(net.forward(x), x)
    assert not make_plan(net.graph, net.device.sizes, 5, training=False).forward
    padded = nc.Sequential([nc.ReLU(), layer(0.3), nc.Conv2D(1, 3, padding=1, initializer="ones")], (9, 10, 7))
    bare = nc.Sequential([nc.ReLU(), nc.Conv2D(1, 3, padding=1, initializer="ones")], (9, 10, 7))
    np.testing.assert_array_equal(padded.forward(x), bare.forward(x))


@both
def test_a_layer_that_does_not_train_passes_values_and_gradients_on(layer, rng):
    x, dy = rng.standard_normal((2, 5, 9, 10, 7)).astype(np.float32)
    result = run_planned(model(layer), [x], [dy], Fixed)
    np.testing.assert_array_equal(result.ys[0], x)
    np.testing.assert_array_equal(result.dxs[0], dy)


@both
def test_rates_at_the_edge(layer, rng):
    x = rng.standard_normal((2, 9, 10, 7)).astype(np.float32)
    np.testing.assert_array_equal(model(layer, rate=0).forward(x, training=True), x)
    nearly = model(layer, rate=np.nextafter(1, 0)).forward(x, training=True)
    assert not nearly.any()
    rare = model(layer, rate=1e-12).forward(x, training=True)
    np.testing.assert_allclose(rare, x, rtol=1e-6)


@both
@pytest.mark.parametrize("rate", [1, 1.5, -0.1, np.nan, np.inf, "half", None])
def test_rates_out_of_range_are_rejected(layer, rate):
    with pytest.raises(nc.ArgumentError, match=r"rate=.*: pass a number of at least 0 and below 1"):
        layer(rate)


def test_channels_are_dropped_of_images_alone():
    with pytest.raises(nc.GeometryError, match="SpatialDropout: input must be an image"):
        nc.SpatialDropout(0.5)(nc.Input((8,)))


@both
def test_nan_stays_nan(layer):
    x = np.full((2, 9, 10, 7), np.nan, np.float32)
    assert np.isnan(model(layer).forward(x, training=True)).all()


def test_copies_of_a_model_continue_its_random_numbers(rng):
    import copy

    net, x = model(nc.Dropout), rng.standard_normal((2, 9, 10, 7)).astype(np.float32)
    draw_again(net)
    net.forward(x, training=True)
    again = copy.deepcopy(net)
    np.testing.assert_array_equal(again.forward(x, training=True), net.forward(x, training=True))
