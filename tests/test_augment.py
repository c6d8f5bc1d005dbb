"""Augmentation: each transform against its definition; the same images in any batch, on any number of threads."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import numbacnn as nc
from numbacnn import augment
from numbacnn.data.chain import TRANSFORMS
from numbacnn.kernels.cpu import launchers as cpu
from numbacnn.kernels.decision import SUM_GROUPS
from numbacnn.kernels.reference import launchers as reference
from numbacnn.tasks.results import count_correct
from numbacnn.training import compilations

NO_FIELD = np.empty((0, 0), np.float32)
ALL = (
    "rotate=20, translate=3, scale=0.2, shear=10, elastic=20:2, crop=2, hflip, vflip, cutout=3, noise=0.1, "
    "color=0.3:0.3:0.3, mixup=0.4@0.5, cutmix"
)
SHAPES = [(1, 1, 1, 1), (2, 1, 5, 1), (3, 7, 4, 3), (2, 9, 13, 2), (4, 28, 28, 1), (2, 3, 130, 2)]


@pytest.fixture
def data(rng):
    return nc.data.Dataset.from_arrays(rng.integers(0, 256, (40, 9, 11, 3), np.uint8), np.arange(40) % 4)


def warp(x, matrices, field, fill):
    """The reference kernel's result, in float64."""
    y = np.empty(x.shape)
    reference.warp_bilinear(y, x, matrices, field, fill)
    return y


def uniforms(index, epoch, seed, transforms):
    """Eight numbers in [0, 1) for each transform of a chain, in float64."""
    u = np.empty((1, 8 * transforms))
    reference.draw_uniforms(u, [index], (seed, epoch))
    return u.reshape(transforms, 8)


def changed(chain, images, **options):
    return augment.apply(chain, images, **options).images


# -- kernels against the reference ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_warp(shape, seed):
    draw = np.random.default_rng(seed)
    n, height, width, _ = shape
    x = draw.standard_normal(shape).astype(np.float32)
    matrices = (draw.standard_normal((n, 6)) * [1, 1, width / 2, 1, 1, height / 2]).astype(np.float32)
    field = draw.standard_normal((n, 2, height, width)).astype(np.float32) if seed % 2 else None
    y, fill = np.empty_like(x), float(seed % 3)
    flat = NO_FIELD if field is None else field.reshape(2 * n, -1)
    cpu.warp_bilinear(y, x, matrices, flat, fill)
    expected = warp(x, matrices, flat, fill)
    assert np.linalg.norm(y - expected) <= 1e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_pixels_do_not_spread_outside_the_image(bad):
    x, y = np.ones((1, 4, 5, 1), np.float32), np.empty((1, 4, 5, 1), np.float32)
    x[0, 2], x[0, :, 0], x[0, 0, 2] = bad, bad, bad
    for shift in (-9, 9):
        for matrix in ([1, 0, shift, 0, 1, 0], [1, 0, 0, 0, 1, shift]):
            cpu.warp_bilinear(y, x, np.array([matrix], np.float32), NO_FIELD, 0.5)
            np.testing.assert_array_equal(y, 0.5)


def test_warp_of_many_images(rng):
    """Each thread reuses its memory for thousands of rows."""
    x = rng.standard_normal((3000, 40, 70, 1)).astype(np.float32)
    matrices = (rng.standard_normal((len(x), 6)) * [1, 1, 35, 1, 1, 20]).astype(np.float32)
    y = np.empty_like(x)
    cpu.warp_bilinear(y, x, matrices, NO_FIELD, 0.5)
    some = slice(None, None, 100)
    expected = warp(x[some], matrices[some], NO_FIELD, 0.5)
    assert np.linalg.norm(y[some] - expected) <= 1e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("seed", [0, 7, 2**40 + 3])
def test_elastic_field(shape, seed):
    n, height, width, _ = shape
    weights, indices = augment.Elastic(1, 1.3).weights, np.array([5, 2**33 + 1, 0, 77])[:n]
    field, scratch = np.empty((2, 2 * n, height * width), np.float32)
    alphas = np.array([3, 0, 1, 2], np.float32)[:n]
    cpu.draw_field(field, scratch, indices, np.array([seed, 2], np.uint64), 4, alphas, weights, width)
    expected = np.empty(field.shape)
    reference.draw_field(expected, None, indices, (seed, 2), 4, alphas, weights, width)
    for planes, theirs, alpha in zip(field.reshape(n, -1), expected.reshape(n, -1), alphas, strict=True):
        np.testing.assert_allclose(planes, theirs, rtol=0, atol=1e-6 * max(alpha, 1))


def test_elastic_field_is_smooth_and_has_the_expected_size():
    """The standard deviation of smoothed uniform numbers is alpha / √3 times the weights' sum of squares."""
    elastic = augment.Elastic(34, 4)
    field, scratch = np.empty((2, 400, 64 * 64), np.float32)
    strengths = np.full(200, 34, np.float32)
    random = np.array([3, 0], np.uint64)
    cpu.draw_field(field, scratch, np.arange(200), random, 1, strengths, elastic.weights, 64)
    inner = field.reshape(400, 64, 64)[:, 12:-12, 12:-12]
    expected = 34 / np.sqrt(3) * np.square(elastic.weights, dtype=np.float64).sum()
    assert abs(inner.std() / expected - 1) < 0.05
    assert abs(inner.mean()) < 0.1 * expected
    step = np.diff(inner, axis=2).std()  # e^(−1/4σ²) is the correlation of neighbors
    assert abs(step / (expected * np.sqrt(2 - 2 * np.exp(-1 / 64))) - 1) < 0.05


def test_uniform_numbers():
    indices, seed = np.array([3, 0, 2**32 - 1]), 2**35 + 9
    u = np.empty((3, 16), np.float32)
    cpu.draw_uniforms(u, indices, np.array([seed, 6], np.uint64))
    for row, index in zip(u, indices, strict=True):
        np.testing.assert_array_equal(row, uniforms(index, 6, seed, 2).reshape(-1).astype(np.float32))


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("rotate=30", lambda u: (np.cos(a := np.radians(60 * u[0] - 30)), -np.sin(a), np.sin(a), np.cos(a), 0, 0)),
        ("translate=2", lambda u: (1, 0, 0, 1, 4 * u[0] - 2, 4 * u[1] - 2)),
        ("crop=2", lambda u: (1, 0, 0, 1, np.floor(5 * u[0]) - 2, np.floor(5 * u[1]) - 2)),
        ("scale=0.3", lambda u: (f := 1 / (0.7 + 0.6 * u[0]), 0, 0, f, 0, 0)),
        ("shear=20", lambda u: (1, np.tan(np.radians(40 * u[0] - 20)), 0, 1, 0, 0)),
    ],
)
def test_affine_transforms(text, entries, rng):
    """The source of a pixel at p from the center is A·p + s, drawn from seed, epoch and image."""
    x = rng.standard_normal((6, 7, 10, 2)).astype(np.float32)
    indices = np.arange(100, 106)
    matrices = []
    for index in indices:
        a, b, c, d, t, v = entries(uniforms(index, 4, 11, 1)[0])
        matrices.append((a, b, t + 4.5 - a * 4.5 - b * 3, c, d, v + 3 - c * 4.5 - d * 3))
    expected = warp(x, np.array(matrices), NO_FIELD, 0)
    found = changed(text, x, seed=11, epoch=4, indices=indices)
    assert np.linalg.norm(found - expected) <= 1e-5 * np.linalg.norm(expected)


# -- properties of transforms ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize(
    "text",
    [
        *("", "rotate=0, translate=0, scale=0, shear=0", "elastic=0:3", "crop=0", "cutout=0", "noise=0", "color"),
        *("rotate=30@0, translate=5@0, elastic=34:4@0, hflip@0, cutout=3@0, noise=1@0, color=1:1:1@0",),
    ],
)
def test_identity_transforms_are_exact(text, dtype, rng):
    images = rng.integers(0, 256, (5, 6, 9, 3)).astype(dtype)
    found = changed(text, images)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, images)


@pytest.mark.parametrize(("text", "axis"), [("hflip", 2), ("vflip", 1)])
@pytest.mark.parametrize("shape", [(300, 6, 9, 3), (300, 5, 4, 1)])
def test_flips_are_exact_and_have_their_probability(text, axis, shape, rng):
    images = rng.integers(0, 256, shape, np.uint8)
    np.testing.assert_array_equal(changed(f"{text}@1", images), np.flip(images, axis))
    np.testing.assert_array_equal(changed(f"{text}@1, {text}@1", images), images)
    half = changed(text, images)
    flipped = (half == np.flip(images, axis)).all((1, 2, 3))
    assert (flipped | (half == images).all((1, 2, 3))).all()
    assert 110 < flipped.sum() < 190


def test_crops_shift_by_whole_pixels(rng):
    images = rng.integers(1, 256, (60, 6, 8, 1), np.uint8)
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    shifts = set()
    for image, around in zip(changed("crop=2", images), padded, strict=True):
        found = [(i, j) for i in range(5) for j in range(5) if np.array_equal(around[i : i + 6, j : j + 8], image)]
        assert len(found) == 1
        shifts |= set(found)
    assert len(shifts) > 15


def test_cutout_fills_one_square(rng):
    images = np.full((400, 9, 7, 2), 200, np.uint8)
    new = changed(augment.Compose([augment.Cutout(4)], fill=3), images)
    assert set(np.unique(new)) == {3, 200}
    np.testing.assert_array_equal(new[..., 0], new[..., 1])
    holes = new[..., 0] == 3
    for hole in holes:
        h, w = np.nonzero(hole)
        assert len(h) == np.ptp(h) * np.ptp(w) + np.ptp(h) + np.ptp(w) + 1  # a full rectangle
        assert np.ptp(h) < 4
        assert np.ptp(w) < 4
    assert holes.any(0).all()
    assert (holes.sum((1, 2)) == 16).any()


def test_noise_is_normal_and_independent():
    x = np.zeros((50, 31, 33, 3), np.float32)
    noise = changed("noise=0.5", x)
    assert abs(noise.mean()) < 0.005
    assert abs(noise.std() - 0.5) < 0.005
    tails = [(np.abs(noise) > 0.5 * k).mean() for k in (1, 2, 3)]
    np.testing.assert_allclose(tails, [0.3173, 0.0455, 0.0027], rtol=0.06)
    for shift in [(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]:
        assert abs((noise * np.roll(noise, shift, (0, 1, 2, 3))).mean()) < 0.005
    bytes_ = changed("noise=0.1", np.full((50, 31, 33, 1), 128, np.uint8))
    assert abs(bytes_.std() - 25.5) < 0.3


@pytest.mark.parametrize("channels", [1, 3])
def test_color_jitter(channels, rng):
    x = rng.random((5, 6, 7, channels)).astype(np.float32)
    luma = np.array([0.299, 0.587, 0.114]) if channels == 3 else np.ones(1)
    found = changed("color=0.2:0.4:0.6", x, seed=8, epoch=1)
    for index, image in enumerate(x.astype(np.float64)):
        factors = 1 + np.array([0.2, 0.4, 0.6]) * (2 * uniforms(index, 1, 8, 1)[0, :3] - 1)
        y = factors[0] * image
        y = factors[1] * y + (1 - factors[1]) * (y @ luma).mean()
        y = factors[2] * y + (1 - factors[2]) * (y @ luma)[..., None]
        np.testing.assert_allclose(found[index], y, rtol=0, atol=1e-5)


def test_consecutive_geometric_transforms_are_one_resampling():
    stages = augment.Compose.parse("hflip, rotate=3, elastic, scale=0.1, noise=1, crop=1, cutout=2").stages
    assert [len(stage.affine) if hasattr(stage, "affine") else stage[1].name for stage in stages] == [
        *(2, 1, "noise"),
        *(1, "cutout"),
    ]
    images = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 1), np.uint8)
    np.testing.assert_array_equal(changed("translate=3, translate=0", images), changed("translate=3", images))


# -- mixing two images ------------------------------------------------------------------------------------------------


def test_mixup_blends_two_images_and_labels(data):
    x = data.images[:20].astype(np.float32)
    whole = nc.data.Dataset.from_arrays(data.images.astype(np.float32), data.labels)
    found = augment.apply("mixup=1", x, data.labels[:20], 5, 2, np.arange(20), source=whole)
    assert found.labels.shape == (20, 4)
    np.testing.assert_allclose(found.labels.sum(1), 1, atol=1e-6)
    for index in range(20):
        u = uniforms(index, 2, 5, 1)[0]
        other, share = int(u[0] * 40), u[1]  # Beta(1, 1) is uniform
        image = (1 - share) * x[index] + share * whole.images[other]
        np.testing.assert_allclose(found.images[index], image, atol=0.1)
        label = (1 - share) * np.eye(4)[data.labels[index]] + share * np.eye(4)[data.labels[other]]
        np.testing.assert_allclose(found.labels[index], label, atol=2e-4)


def test_cutmix_labels_are_fractions_of_the_area():
    images = np.repeat(np.arange(200) % 2, 11 * 9).reshape(200, 11, 9, 1).astype(np.uint8)
    found = augment.apply("cutmix", images, images[:, 0, 0, 0].astype(int))
    np.testing.assert_allclose(found.images.mean((1, 2, 3)), found.labels[:, 1], atol=1e-6)
    assert len(np.unique(found.labels)) > 20


@pytest.mark.parametrize("alpha", [0.05, 0.2, 1, 4, 40])
def test_mixing_weights_follow_the_beta_distribution(alpha):
    """Check the moments: mean ½, variance 1 / (8α + 4), and the fourth central moment."""
    u = (np.arange(100_000) + 0.5) / 100_000
    draws = np.zeros((len(u), 8))
    draws[:, 1] = u
    shares = augment.Mixup(alpha)._weights(draws) - 0.5
    assert abs(shares.mean()) < 1e-6
    variance = 1 / (8 * alpha + 4)
    assert abs((shares**2).mean() / variance - 1) < 0.01
    assert abs((shares**4).mean() / (3 * variance**2 * (2 * alpha + 1) / (2 * alpha + 3)) - 1) < 0.03


def test_the_other_image_is_augmented_too(data):
    plain = augment.apply("crop=2", data.images, data.labels, 3, 1).images.astype(np.float64)
    mixed = augment.apply("crop=2, mixup=1", data.images, data.labels, 3, 1)
    for index in range(len(data)):
        u = uniforms(index, 1, 3, 2)[1]
        share, other = u[1], int(u[0] * 40)
        np.testing.assert_allclose(mixed.images[index], (1 - share) * plain[index] + share * plain[other], atol=0.6)


# -- determined by seed, epoch and image ----------------------------------------------------------------------------


@pytest.mark.parametrize("cuts", [[1] * 40, [7, 33], [16, 16, 8]])
def test_image_is_the_same_in_any_batch(data, cuts):
    whole = augment.apply(ALL, data.images, data.labels, 9, 3)
    order = np.random.default_rng(1).permutation(40)
    for indices in np.split(order, np.cumsum(cuts)[:-1]):
        images, labels, *_ = augment.apply(ALL, data.images[indices], data.labels[indices], 9, 3, indices, source=data)
        np.testing.assert_array_equal(images, whole.images[indices])
        np.testing.assert_array_equal(labels, whole.labels[indices])


def test_seeds_epochs_and_images_differ(data):
    same = np.broadcast_to(data.images[:1], (5, 9, 11, 3))
    for text in ("rotate=20", "translate=3", "elastic=40:2", "noise=0.1", "color=0.5"):
        first = changed(text, same)
        others = [changed(text, same, seed=1), changed(text, same, seed=2**32), changed(text, same, epoch=1)]
        assert all((other != first).any((1, 2, 3)).all() for other in others), text
        assert len({image.tobytes() for image in first}) == 5, text
        twice = changed(f"{text}, {text}", same)  # the second one draws other numbers
        assert len({image.tobytes() for image in [*first, *twice]}) == 10, text


def test_fit_trains_on_the_images_of_apply(data, monkeypatch):
    monkeypatch.setattr(compilations, "compile_missing_ahead", lambda trainer: None)  # it loads batches, without a step
    model = nc.Sequential([nc.Conv2D(2, 3), nc.Flatten(), nc.Dense(4)], (9, 11, 3))
    seen, load = [], model.load_images
    model.load_images = lambda target, images, i: (seen.append(images.copy()), load(target, images, i))
    model.fit(data, epochs=2, batch_size=16, seed=5, augment=ALL)
    loader = nc.data.DataLoader(data, 16, seed=5)
    expected = [
        augment.apply(ALL, batch.images, batch.labels, 5, epoch, batch.indices, source=data).images
        for epoch in range(2)
        for batch in loader.epoch(epoch)
    ]
    assert len(seen) == len(expected) == 6
    for ours, theirs in zip(seen, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def counts(output, labels):
    partial = np.empty((2, SUM_GROUPS))
    count_correct(cpu, partial, output, labels)
    return tuple(partial.sum(axis=1))


def test_count_correct_takes_probabilities_and_labels():
    labels = np.array([[0.3, 0.7, 0], [0.9, 0, 0.1], [0.4, 0, 0.6]], np.float32)
    output = np.array([[0, 1, 0], [1, 0, 0], [1, 0, 0]], np.float32).reshape(3, 1, 1, 3)
    assert counts(output, labels) == (2, 3)
    assert counts(output, np.array([1, 0, 0])) == (3, 3)


def test_mixed_labels_with_label_smoothing(data):
    model = nc.Sequential([nc.Flatten(), nc.Dense(4)], (9, 11, 3))
    loss = nc.losses.CrossEntropy(label_smoothing=0.1)
    history = model.fit(data, epochs=3, batch_size=8, augment="mixup=0.1", loss=loss, optimizer=nc.Adam(0.01))
    assert history.epochs[-1].accuracy > 0.6
    with pytest.raises(nc.ArgumentError, match="the focal loss needs integer classes"):
        model.fit(data, epochs=1, augment="mixup", loss="focal")


# -- masks and boxes --------------------------------------------------------------------------------------------------

GEOMETRY = "rotate=25, scale=0.3, translate=4, elastic=15:3, hflip"


def scene():
    images, masks = np.zeros((2, 12, 32, 40), np.uint8)
    boxes = []
    for n in range(12):
        top, left = 8 + n % 3, 9 + n
        images[n, top : top + 10, left : left + 8] = 255
        masks[n, top : top + 10, left : left + 8] = 3
        boxes.append([[left, top, left + 8, top + 10]])
    return images, masks, boxes


def test_masks_and_boxes_follow_the_images():
    images, masks, boxes = scene()
    found = augment.apply(GEOMETRY, images, masks=masks, boxes=boxes)
    assert found.masks.dtype == masks.dtype
    assert set(np.unique(found.masks)) == {0, 3}
    edges = np.abs((found.masks > 0) * 255.0 - found.images) > 130  # nearest and bilinear differ only at edges
    assert edges.mean() < 0.005
    for mask, box in zip(found.masks, found.boxes, strict=True):
        h, w = np.nonzero(mask)
        np.testing.assert_allclose(box[0], [w.min(), h.min(), w.max() + 1, h.max() + 1], atol=1)


def test_masks_and_boxes_stay_exact():
    images, masks, boxes = scene()
    same = augment.apply("rotate=0, noise=0.1, cutout=4", images, masks=masks, boxes=boxes)
    np.testing.assert_array_equal(same.masks, masks)
    np.testing.assert_array_equal(same.boxes, boxes)
    flipped = augment.apply("hflip@1", images, masks=masks, boxes=boxes)
    np.testing.assert_array_equal(flipped.masks, masks[:, :, ::-1])
    for box, ((left, top, right, bottom),) in zip(flipped.boxes, boxes, strict=True):
        np.testing.assert_array_equal(box, [[40 - right, top, 40 - left, bottom]])
    gone = augment.apply("crop=0", images[:1], boxes=[[[-9, -9, -1, -1], [0, 0, 40, 32]]])
    np.testing.assert_array_equal(gone.boxes[0], [[0, 0, 0, 0], [0, 0, 40, 32]])


# -- text, and errors -----------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from(ALL.split(", "))), st.floats(0, 1))
def test_text_round_trip(parts, p):
    chain = augment.Compose.parse(", ".join([*parts, f"rotate={p}", f"hflip@{p}"]))
    assert augment.Compose.parse(str(chain)).transforms == chain.transforms


def test_transforms_have_unique_names_and_are_public():
    assert set(ALL.replace("=", " ").replace(",", " ").split()) & set(TRANSFORMS) == set(TRANSFORMS)
    assert all(getattr(augment, kind.__name__) is kind for kind in TRANSFORMS.values())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rotat=3", "unknown transform 'rotat'; did you mean 'rotate'?"),
        ("rotate", "'rotate' needs a number: rotate=DEGREES"),
        ("rotate=x", "'x' in 'rotate=x' is not a number"),
        ("rotate=3:4", "'rotate=3:4' has 2 numbers; rotate takes degrees"),
        ("hflip=1", "'hflip=1' has 1 numbers; hflip takes none"),
        ("rotate=181", "rotate: degrees=181: pass a number of at least 0 and at most 180"),
        ("translate=-1", "translate: pixels=-1: pass a number of at least 0"),
        ("translate=nan", "translate: pixels=nan: pass a number"),
        ("scale=1", "scale: fraction=1: pass a number of at least 0 and below 1"),
        ("shear=90", "shear: degrees=90: pass a number of at least 0 and below 90"),
        ("crop=1.5", "crop: padding=1.5: pass a whole number of at least 0"),
        ("cutout=-1", "cutout: size=-1: pass a whole number of at least 0"),
        ("elastic=1:0", "elastic: sigma=0: pass a number of at least 0.1"),
        ("mixup=0", "mixup: alpha=0: pass a number of at least 0.01"),
        ("noise=0.1@2", "noise: p=2: pass a number of at least 0 and at most 1"),
        ("color=0:2", "color: contrast=2: pass a number of at least 0 and at most 1"),
    ],
)
def test_invalid_text(text, message, data):
    with pytest.raises(nc.ArgumentError) as error:
        changed(text, data.images)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_invalid_arguments(data):
    images, masks, boxes = scene()
    bad = [
        ({"augment": 3}, "augment=3: pass transforms"),
        ({"augment": ["rotate"]}, "'rotate' is not a transform"),
        ({"augment": "mixup"}, "need labels, and the whole data set with indices"),
        ({"augment": "mixup", "labels": [0] * 12, "masks": masks}, "cannot mix masks and boxes"),
        ({"augment": "rotate=3", "indices": [0]}, "indices are int64 of shape (1,)"),
        ({"augment": "rotate=3", "masks": masks[:3]}, "masks are uint8 of shape (3, 32, 40)"),
        ({"augment": "noise=1", "masks": masks[:, :3]}, "masks are uint8 of shape (12, 3, 40)"),
        ({"augment": "rotate=3", "boxes": boxes[:3]}, "boxes of 3 images for 12"),
        ({"augment": "rotate=3", "boxes": [[[1, 2, 3]]] * 12}, "boxes of image 0 have shape (1, 3)"),
        (
            {"augment": "mixup", "labels": [0] * 12, "indices": range(12), "source": data},
            "source uint8 (9, 11, 3)",
        ),
        ({"augment": "rotate=3", "seed": -1}, "seed=-1"),
    ]
    for options, message in bad:
        with pytest.raises(nc.ArgumentError) as error:
            augment.apply(images=images, **options)
        assert message in str(error.value)
