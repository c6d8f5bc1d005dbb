"""Plots: what they show, their files, and the errors when there is nothing to plot."""

import builtins
import io
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import numbacnn, rejected
from engine import generator_of, randomize
from PIL import Image
from processes import run_python

import numbacnn as nc
from numbacnn.data import fonts
from numbacnn.data.palette import class_colors
from numbacnn.detection import Detections, pack
from numbacnn.metrics import Report, confusion_matrix
from numbacnn.plots import figures, values
from numbacnn.plots.predictions import _boxes
from numbacnn.training.trainer import EpochRecord, History

pytest.importorskip("matplotlib", reason="matplotlib is not installed")
plots = nc.plots


def network(channels=1, classes=10, seed=0):
    """A model with two branches, batch normalization and unnamed layers; random weights."""
    x = nc.Input((16, 20, channels))
    h = nc.ReLU()(nc.Conv2D(6, 3, padding="same", name="stem")(x))
    h = nc.Concat()([nc.Conv2D(3, 1)(h), nc.Conv2D(4, 3, padding="same")(h)])
    h = nc.MaxPool2D(2)(nc.ReLU()(nc.BatchNorm()(nc.Conv2D(5, 3)(h))))
    model = nc.Model(x, nc.Dense(classes)(nc.Flatten()(h)), seed=seed)
    randomize(model, generator_of(f"{channels} {classes}"))
    return model


def pictures(channels, n=30, classes=10):
    draw = generator_of(f"pictures {channels}")
    images = draw.integers(0, 256, (n, 16, 20, channels), dtype=np.uint8)
    return nc.data.Dataset.from_arrays(images, draw.integers(0, classes, n), [f"kind {i}" for i in range(classes)])


def shown(ax):
    """The arrays of an axes' images, from the bottom one up."""
    return [np.asarray(image.get_array()) for image in ax.get_images()]


def with_images(figure):
    return [ax for ax in figure.axes if ax.get_images()]


def assert_laid_out(figure):
    """Check that nothing visible reaches beyond the figure."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    box, (width, height) = figure.get_tightbbox(canvas.get_renderer()), figure.get_size_inches()
    assert (box.x0 >= -0.01, box.y0 >= -0.01, box.x1 <= width + 0.01, box.y1 <= height + 0.01) == (True,) * 4, box


def size(path):
    with Image.open(path) as image:
        return image.size


# -- trainings --------------------------------------------------------------------------------------------------------


def history(epochs, validation=True):
    return History(
        [
            EpochRecord(i + 1, 2 / (i + 1), 1 - 1 / (i + 2), 3 / (i + 1) if validation else None,
                        0.5 if validation else None, 0.1 / (i + 1), 1.0, 10.0)
            for i in range(epochs)
        ]
    )  # fmt: skip


@pytest.mark.parametrize("epochs", [1, 4, 80])
def test_training_curves(epochs):
    figure = plots.training_curves(history(epochs))
    loss, accuracy, rate = figure.axes
    assert [line.get_label() for line in loss.lines] == ["training", "validation"]
    np.testing.assert_allclose(loss.lines[0].get_ydata(), [2 / (i + 1) for i in range(epochs)])
    np.testing.assert_allclose(loss.lines[1].get_ydata(), [3 / (i + 1) for i in range(epochs)])
    np.testing.assert_allclose(accuracy.lines[0].get_ydata(), [100 - 100 / (i + 2) for i in range(epochs)])
    np.testing.assert_allclose(rate.lines[0].get_ydata(), [0.1 / (i + 1) for i in range(epochs)])
    assert list(loss.lines[0].get_xdata()) == list(range(1, epochs + 1))
    assert [ax.get_ylabel() for ax in figure.axes] == ["loss", "accuracy (%)", "learning rate at the end of the epoch"]
    assert {ax.get_xlabel() for ax in figure.axes} == {"epoch"}
    assert all(tick == round(tick) for tick in loss.get_xticks())
    assert_laid_out(figure)


def test_training_curves_without_validation():
    assert [len(ax.lines) for ax in plots.training_curves(history(3, validation=False)).axes] == [1, 1, 1]
    with pytest.raises(nc.ArgumentError, match="the training has not completed an epoch"):
        plots.training_curves(History())


def test_a_notebook_shows_a_figure():
    """IPython asks an object for ``_repr_png_``, also if matplotlib.pyplot is not imported."""
    png = plots.filters(network())._repr_png_()
    with Image.open(io.BytesIO(png)) as image:
        image.load()
        assert image.format == "PNG"
        assert len(image.convert("L").getcolors(256)) > 10


def test_gradient_norms_match_the_models_gradients():
    model, data = network(), pictures(1)
    norms = plots.layer_gradient_norms(model, data.images, data.labels)
    x = data.images.astype(np.float32) / 255
    logits = model.forward(x, training=True)
    model.backward(nc.losses.cross_entropy(logits, data.labels)[1])
    expected = {}
    for name, gradient in model.gradients.items():
        expected.setdefault(name.split(".")[0], []).append(gradient.reshape(-1))
    assert list(norms) == list(expected)
    for name, parts in expected.items():
        assert norms[name] == pytest.approx(np.linalg.norm(np.concatenate(parts)), rel=1e-5), name
    figure = plots.gradient_norms(norms)
    (ax,) = figure.axes
    np.testing.assert_allclose(ax.lines[0].get_xdata(), list(norms.values()))
    assert [label.get_text() for label in ax.get_yticklabels()] == list(norms)
    assert ax.get_xscale() == "log"
    assert_laid_out(figure)


def test_gradient_norms_of_frozen_layers():
    model, data = network(), pictures(1)
    model.freeze("stem.*")
    norms = plots.layer_gradient_norms(model, data.images, data.labels)
    assert norms["stem"] == 0
    (ax,) = plots.gradient_norms(norms | {"broken": float("nan")}).axes
    assert len(ax.lines[0].get_xdata()) == len(norms) - 1
    assert [text.get_text() for text in ax.texts if text.get_color() == "#D55E00"] == [
        "0: frozen, or without effect on the loss",
        "nan",
    ]
    plots.gradient_norms({"a": 0.0})
    with pytest.raises(nc.ArgumentError, match="no layer of the model has parameters"):
        plots.gradient_norms({})


# -- classification ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 10, 100, 130])
def test_confusion_matrix(rng, classes):
    labels, predictions = rng.integers(0, classes - 1, 500), rng.integers(0, classes, 500)
    report = Report(tuple(f"${i} kind" for i in range(classes)), confusion_matrix(labels, predictions, classes), {})
    figure = plots.confusion_matrix(report)
    ax = figure.axes[0]
    (image,) = shown(ax)
    support = np.bincount(labels, minlength=classes)
    np.testing.assert_allclose(image[support > 0], (report.confusion / np.maximum(support, 1)[:, None])[support > 0])
    assert not image[classes - 1].any()
    numbers = [text.get_text() for text in ax.texts]
    assert numbers == ([str(n) for n in report.confusion.reshape(-1)] if classes <= 20 else [])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted class", "true class")
    assert len(ax.get_yticks()) == (classes if classes <= 120 else 65)
    assert f"accuracy {100 * report.accuracy:.2f} % of 500 images" in figure.get_suptitle()
    assert_laid_out(figure)


@pytest.mark.parametrize("channels", [1, 3])
def test_mistakes_are_the_most_confident(channels):
    model, data = network(channels), pictures(channels)
    model.classes = data.classes
    found = plots.confident_mistakes(model, data, 8)
    probabilities = model.predict(data.images)
    confident = [(-p.max(), i) for i, p in enumerate(probabilities) if p.argmax() != data.labels[i]]
    assert found.indices.tolist() == [i for _, i in sorted(confident)[:8]]
    figure = plots.mistakes(model, data, 8)
    axes = with_images(figure)
    assert len(axes) == 8
    for ax, i in zip(axes, found.indices, strict=True):
        np.testing.assert_array_equal(shown(ax)[0], data.images[i].squeeze())
        guess = probabilities[i].argmax()
        assert ax.get_title() == (
            f"image {i}, {100 * probabilities[i, guess]:.1f} %\ntrue kind {data.labels[i]}\npredicted kind {guess}"
        )
    assert_laid_out(figure)


def test_an_ignored_label_is_no_mistake():
    model, data = network(1), pictures(1)
    model.classes = data.classes
    ignored = int(data.labels[plots.confident_mistakes(model, data, 1).indices[0]])
    masked = replace(data, ignore_index=ignored)
    found, expected = plots.confident_mistakes(model, masked, 500), plots.confident_mistakes(model, data, 500)
    assert found.indices.tolist() == [i for i in expected.indices if data.labels[i] != ignored]
    assert 0 < len(found.indices) < len(expected.indices)


def test_few_or_no_mistakes():
    model, data = network(), pictures(1)
    right = model.predict(data.images).argmax(axis=1)
    perfect = nc.data.Dataset.from_arrays(data.images, right, data.classes)
    with pytest.raises(nc.ArgumentError, match="no mistake on the 30 images"):
        plots.mistakes(model, perfect)
    right[7] = (right[7] + 1) % 10
    one = nc.data.Dataset.from_arrays(
        data.images, right, [f"an uncommonly long name of a class, {i}" for i in range(10)]
    )
    model.classes = one.classes
    figure = plots.mistakes(model, one)
    assert len(with_images(figure)) == 1
    assert_laid_out(figure)


# -- layers -----------------------------------------------------------------------------------------------------------


def test_filters_of_one_channel():
    model = network()
    axes = with_images(plots.filters(model))
    w = model.parameters["stem.weight"]
    assert [ax.get_title() for ax in axes] == list("012345")
    for i, ax in enumerate(axes):
        np.testing.assert_array_equal(shown(ax)[0], w[:, :, 0, i])
        assert ax.get_images()[0].get_clim() == pytest.approx((-np.abs(w).max(), np.abs(w).max()))


def test_filters_of_three_channels_are_color_images():
    model = network(3)
    w = model.parameters["stem.weight"]
    for i, ax in enumerate(with_images(plots.filters(model))):
        np.testing.assert_allclose(shown(ax)[0], 0.5 + w[..., i] / (2 * np.abs(w).max()), rtol=1e-6)


def test_filters_of_many_channels():
    model = network()
    figure = plots.filters(model, "conv2d_4")
    w = model.parameters["conv2d_4.weight"]
    assert w.shape == (3, 3, 7, 5)
    axes = with_images(figure)
    assert len(axes) == 35
    np.testing.assert_array_equal(shown(axes[8])[0], w[:, :, 1, 1])
    assert axes[8].get_title() == "1, channel 1"
    assert_laid_out(figure)


def test_many_filters_are_sampled():
    model = nc.Sequential([nc.Conv2D(200, 3)], (8, 8, 1))
    figure = plots.filters(model)
    titles = [ax.get_title() for ax in with_images(figure)]
    assert len(titles) == 64
    assert (titles[0], titles[-1]) == ("0", "199")
    assert "64 of 200 filters" in figure.get_suptitle()


@pytest.mark.parametrize("channels", [1, 3])
def test_feature_maps(channels):
    model, data = network(channels), pictures(channels)
    figure = plots.feature_maps(model, data.images[0], channels=4)
    values = model.activations(data.images[:1])
    maps = [name for name, array in values.items() if array.ndim == 4]
    rows = np.array(figure.axes).reshape(len(maps), 5)
    np.testing.assert_array_equal(shown(rows[0, 0])[0], data.images[0].squeeze())
    for name, row in zip(maps, rows, strict=True):
        h, w, c = values[name].shape[1:]
        assert row[1].texts[0].get_text() == f"{name}\n{h}×{w}×{c}"
        for i in range(4):
            if i < c:
                np.testing.assert_array_equal(shown(row[i + 1])[0], values[name][0, ..., i])
            else:
                assert not row[i + 1].get_images()
    assert_laid_out(figure)


def test_feature_maps_of_some_layers():
    model, data = network(), pictures(1)
    figure = plots.feature_maps(model, data.images[0], ["relu_2", "stem"])
    assert [ax.texts[0].get_text().split("\n")[0] for ax in figure.axes if ax.texts] == ["relu_2", "stem"]
    assert "2 of 9 layers" in figure.get_suptitle()


def test_feature_maps_of_a_deep_model_are_sampled():
    model = nc.models.resnet20()
    figure = plots.feature_maps(model, np.zeros((32, 32, 3), np.float32))
    assert len([ax for ax in figure.axes if ax.texts]) == 12
    assert_laid_out(figure)


def test_class_activation_map_against_numpy():
    """Conv, ReLU, global average, dense: there α is the class's weight over the pixels (section 3.1)."""
    model = nc.Sequential(
        [nc.Conv2D(5, 3, padding="same"), nc.ReLU(), nc.GlobalAvgPool2D(), nc.Dense(4), nc.Softmax()], (6, 7, 3)
    )
    randomize(model, generator_of("grad-cam"))
    images = generator_of("x").standard_normal((3, 6, 7, 3)).astype(np.float32)
    a = np.maximum(nc.functional.conv2d(images, *list(model.parameters.values())[:2], padding="same"), 0)
    w = model.parameters["dense_1.weight"].astype(np.float64)
    classes = [2, 0, 3]
    expected = np.maximum(np.einsum("nhwk,kn->nhw", a, w[:, classes] / 42), 0)
    assert (expected > 0).any()
    found = plots.class_activation_map(model, images, classes)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6 * expected.max())
    np.testing.assert_array_equal(found, plots.class_activation_map(model, images, classes, "relu_1"))


@pytest.mark.parametrize("channels", [1, 3])
def test_grad_cam(channels):
    model, data = network(channels), pictures(channels)
    model.classes = data.classes
    image = data.images[4]
    figure = plots.grad_cam(model, image)
    left, right = with_images(figure)[:2]
    probabilities = model.predict(image)[0]
    best = int(probabilities.argmax())
    assert left.get_title() == f"predicted: kind {best}, {100 * probabilities[best]:.1f} %"
    assert right.get_title() == f"evidence for kind {best} in relu_2"
    heat = plots.class_activation_map(model, image, [best], "relu_2")[0]
    np.testing.assert_array_equal(shown(left)[0], image.squeeze())
    np.testing.assert_allclose(shown(right)[1], heat / heat.max())
    assert right.get_images()[1].get_extent() == [-0.5, 19.5, 15.5, -0.5]
    assert_laid_out(figure)
    assert "kind 3" in plots.grad_cam(model, image, 3, "stem").axes[1].get_title()


def test_grad_cam_looks_at_the_last_block():
    """In a residual network, the sum after the last two convolutions, and not one of its two terms."""
    assert values.default_layer(nc.models.make("resnet18_small", input_shape=(64, 64, 3))) == "layer4.1.relu"
    in_one_pixel = nc.models.make("resnet18_small", input_shape=(32, 32, 3))  # which says nothing about where
    assert next(n.shape for n in in_one_pixel.graph.nodes if n.name == "layer4.1.relu") == (1, 1, 128)
    assert values.default_layer(in_one_pixel) == "layer3.1.relu"
    assert values.default_layer(nc.models.make("lenet5")) == "relu_2"
    x = nc.Input((8, 8, 1))
    branches = [nc.ReLU()(nc.Conv2D(2, 1, name=name)(x)) for name in "ab"]
    last = nc.Concat(name="both")(branches)
    assert values.default_layer(nc.Model(x, nc.Dense(2)(nc.GlobalAvgPool2D()(last)))) == "both"


@pytest.mark.parametrize("level", [0, 30, 128, 255])
def test_grad_cam_shows_on_dark_images(level):
    model, image = network(), np.full((16, 20, 1), level, np.uint8)
    image[4:8] = min(level + 20, 255)
    evidence = plots.class_activation_map(model, np.repeat(image[None], 10, axis=0), range(10)).max(axis=(1, 2))
    assert evidence.max() > 0
    ground, heat = with_images(plots.grad_cam(model, image, int(evidence.argmax())))[1].get_images()
    assert ground.get_array().min() >= 0.3
    strongest = np.unravel_index(heat.get_array().argmax(), heat.get_array().shape)
    assert heat.get_alpha()[strongest] == pytest.approx(0.85)


@pytest.fixture
def only_matplotlibs_fonts(monkeypatch):
    monkeypatch.setattr(fonts, "FOLDERS", ())
    for function in (fonts.font_file, figures._fallback):
        function.cache_clear()
    yield
    for function in (fonts.font_file, figures._fallback):
        function.cache_clear()


def test_characters_that_no_font_has_are_named(only_matplotlibs_fonts):
    report = Report(("кошка", "猫"), np.eye(2, dtype=np.int64), {})
    with pytest.warns(UserWarning, match="no installed font has the characters 猫 of class names"):
        figure = plots.confusion_matrix(report)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["кошка", "□"]
    assert_laid_out(figure)


def test_an_installed_font_is_used_for_characters_that_matplotlib_lacks(monkeypatch, only_matplotlibs_fonts):
    import matplotlib

    serif = Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSerif.ttf"

    def lacking(face, characters):
        """Pretend that DejaVu Sans has no Greek letters."""
        return "".join(c for c in characters if c in "σκύλος") if "Serif" not in face.getname()[0] else ""

    monkeypatch.setattr(figures, "lacking", lacking)
    monkeypatch.setattr(figures, "font_file", lambda characters: serif)
    figure = plots.confusion_matrix(Report(("dog", "σκύλος"), np.eye(2, dtype=np.int64), {}))
    families = {label.get_text(): label.get_fontfamily()[-1] for label in figure.axes[0].get_yticklabels()}
    assert families == {"dog": "sans-serif", "σκύλος": "DejaVu Serif"}
    assert_laid_out(figure)


def test_boxes_have_the_colors_of_their_classes():
    images = np.zeros((1, 32, 32, 1), np.uint8)
    truth = pack([np.array([[2, 2, 10, 10, 1]], np.float32)])
    found = [Detections(np.array([[12, 12, 30, 30]], np.float32), np.array([0]), np.array([0.9], np.float32))]
    figure = _boxes(images, truth, found, ("cat", "dog"))
    (ax,) = figure.axes
    edges = [tuple(patch.get_edgecolor()[:3]) for patch in ax.patches]
    np.testing.assert_allclose(edges, class_colors(2)[[1, 0]] / 255)
    assert [text.get_text() for text in ax.texts] == ["cat 90"]
    listed = [text.get_text() for text in figure.legends[0].get_texts()]
    assert listed == ["predicted: class, score in %", "true", "cat", "dog"]
    assert_laid_out(figure)


def test_legends_cover_no_curve():
    figure = plots.training_curves(history(5))
    assert_laid_out(figure)
    for ax in figure.axes[:2]:
        assert not ax.get_legend().get_window_extent().overlaps(ax.get_window_extent())


def test_grad_cam_without_evidence():
    model = nc.Sequential([nc.Conv2D(2, 3), nc.ReLU(), nc.Flatten(), nc.Dense(2)], (5, 5, 1))
    model.set_parameters({"dense_1.weight": np.zeros((18, 2))})
    figure = plots.grad_cam(model, np.ones((5, 5, 1), np.float32))
    assert figure.axes[1].get_title().endswith(": none")


@pytest.mark.parametrize(
    ("fragment", "call"),
    [
        ("unknown layer 'relu_9'; did you mean", lambda m, x: plots.feature_maps(m, x[0], ["relu_9"])),
        ('layer "dense_1" has no maps', lambda m, x: plots.feature_maps(m, x[0], ["dense_1"])),
        (
            'layer "flatten_1" has outputs (315,)',
            lambda m, x: plots.grad_cam(m, x[0], 0, "flatten_1"),
        ),
        ("unknown layer 'stm'; did you mean 'stem'", lambda m, x: plots.grad_cam(m, x[0], 0, "stm")),
        ("class 10 for 1 images", lambda m, x: plots.grad_cam(m, x[0], 10)),
        ("Grad-CAM shows one image; 2 are given", lambda m, x: plots.grad_cam(m, x[:2])),
        ("unknown convolution 'stm'; did you mean 'stem'", lambda m, x: plots.filters(m, "stm")),
        ("count", lambda m, x: plots.mistakes(m, pictures(1), 0)),
        ("no convolution: there are no filters", lambda m, x: plots.filters(nc.Sequential([nc.Dense(2)], (3,)))),
        (
            "no convolution before its scores",
            lambda m, x: plots.grad_cam(nc.Sequential([nc.Flatten(), nc.Dense(2)], (16, 20, 1)), x[0]),
        ),
        (
            "no layer of the model has maps",
            lambda m, x: plots.feature_maps(nc.Sequential([nc.Dense(2)], (3,)), [1.0] * 3),
        ),
    ],
)
def test_invalid_input_is_an_error(fragment, call):
    with pytest.raises(nc.ArgumentError) as caught:
        call(network(), pictures(1).images)
    assert fragment in str(caught.value)


# -- files and the command line ---------------------------------------------------------------------------------------


def test_files_are_reproducible_and_of_the_right_format(tmp_path):
    for name in ("a.png", "b.PNG", "a.svg", "b.svg"):
        plots.save(plots.training_curves(history(3)), tmp_path / name)
    a, b, c, d = ((tmp_path / name).read_bytes() for name in ("a.png", "b.PNG", "a.svg", "b.svg"))
    assert a == b
    assert c == d
    assert size(tmp_path / "a.png") == (1800, 570)
    assert b"<svg" in c
    with pytest.raises(nc.ArgumentError, match=r"a\.pdf: choose a file name that ends in \.png or \.svg"):
        plots.save(plots.training_curves(history(3)), tmp_path / "a.pdf")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "r"
    assert numbacnn("train", "--epochs", 2, "--out", folder, "-q").code == 0
    return folder


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("curves", ()),
        ("confusion", ("--data", "digits")),
        ("mistakes", ("--count", 4)),
        ("filters", ("--layer", "conv2d_2")),
        ("features", ("--index", 5, "--layer", "conv2d_1", "--layer", "relu_2")),
        ("gradcam", ("--class", 7)),
        ("gradients", ("--count", 16)),
    ],
)
def test_every_kind_from_the_command_line(run, tmp_path, kind, options):
    outcome = numbacnn("plot", run, kind, "--out", tmp_path / "p.png", *options)
    assert outcome == (0, f"{tmp_path / 'p.png'}\n", "")
    assert [path.name for path in tmp_path.iterdir()] == ["p.png"]
    assert 5_000 < (tmp_path / "p.png").stat().st_size < 500_000
    assert min(size(tmp_path / "p.png")) > 200


def test_example_draws_every_kind(tmp_path):
    printed = run_python(Path(__file__).parents[1] / "examples" / "look_inside.py", tmp_path / "new", "--fast")
    kinds = ("curves", "confusion", "mistakes", "filters", "features", "gradcam", "gradients")
    assert printed.split() == [str(tmp_path / "new" / f"{kind}.png") for kind in kinds]
    assert all(min(size(path)) > 200 for path in printed.split())


def test_image_file(run, tmp_path):
    _, test = nc.data.load("digits")
    Image.fromarray(test.images[0, :, :, 0]).save(tmp_path / "d.png")
    for name, options in (("a", ("--image", tmp_path / "d.png")), ("b", ("--index", 0))):
        model = run / "model.safetensors"
        assert numbacnn("plot", model, "gradcam", "--out", tmp_path / f"{name}.svg", *options).code == 0
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_metrics_are_read_back(run):
    from numbacnn.runs.folder import RunFolder

    folder = RunFolder(run)
    found, text = folder.read_metrics(), folder.metrics.read_text()
    folder.write_metrics(found)
    assert folder.metrics.read_text() == text
    assert [type(record.epoch) for record in found.epochs] == [int, int]


def test_errors_of_the_command(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "young").mkdir()
    (tmp_path / "young" / "config.toml").write_text("epochs = 3\n")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "config.toml").write_text("epochs = 3\n")
    (tmp_path / "damaged" / "metrics.csv").write_text("epoch,loss\n1,x\n")
    to = ("--out", "p.png")
    rejected("nowhere: no such folder", "plot", "nowhere", "curves", *to)
    rejected("empty is not the folder of a run", "plot", "empty", "curves", *to)
    rejected(
        "no epoch is complete; resume it: numbacnn train",
        "plot",
        "young",
        "curves",
        *to,
    )
    rejected("metrics.csv: damaged", "plot", "damaged", "curves", *to)
    rejected("use the folder of a run to plot its training curves", "plot", run / "model.safetensors", "curves", *to)
    rejected("did you mean 'conv2d_2'?", "plot", run, "features", "--layer", "conv2d_3", *to)
    rejected("unknown class 'seven'", "plot", run, "gradcam", "--class", "seven", *to)
    rejected("--index 360: the test set has images 0 to 359", "plot", run, "gradcam", "--index", 360, *to)
    rejected("use one --layer", "plot", run, "gradcam", "--layer", "relu_1", "--layer", "relu_2", *to)
    rejected("ends in .png or .svg", "plot", run, "filters", "--out", "p.jpeg")
    rejected("there is no folder no", "plot", run, "filters", "--out", "no/p.png")
    rejected("curves takes no --index", "plot", run, "curves", "--index", 1, *to, code=2)
    rejected("use --image or --index", "plot", run, "gradcam", "--image", "a.png", "--index", 1, *to, code=2)
    rejected("is not one of", "plot", run, "landscape", *to, code=2)
    rejected("Missing option '--out'", "plot", run, "curves", code=2)


def test_error_without_matplotlib_names_the_extra(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    imported = builtins.__import__

    def missing(name, *arguments):
        if name.split(".")[0] == "matplotlib":
            raise ImportError(name)
        return imported(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", missing)
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    rejected("pip install 'numbacnn[plot]'", "plot", run, "curves", "--out", "p.png")
