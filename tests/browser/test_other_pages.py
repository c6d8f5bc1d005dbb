"""The page of a training, and exported pages, in Chromium."""

import base64
import re
import threading

import numpy as np
import pytest
from command_line import numbacnn, process
from hands import DIGITS, strokes

import numbacnn as nc
from numbacnn.serve import export_page


@pytest.fixture(scope="module")
def exported(browser, tmp_path_factory):
    """The page of the bundled model, written by the command line."""
    file = tmp_path_factory.mktemp("page") / "digits.html"
    outcome = numbacnn("export", "mnist", file)
    assert outcome.code == 0, outcome
    return file


def predicted(page, images):
    """Probabilities that the page's network computes, in Base64 both ways."""
    rows = [base64.b64encode(image.tobytes()).decode() for image in images]
    script = "rows => rows.map(row => [...numbacnn.network.predict(Uint8Array.from(atob(row), c => c.charCodeAt(0)))])"
    return np.array(page.evaluate(script, rows))


def test_an_exported_page_computes_what_the_engine_does_offline(visit, exported, model):
    opened = visit(exported.as_uri())
    opened.context.set_offline(True)
    _, test = nc.data.load("digits")
    images = test.images[:100]
    found, expected = predicted(opened.page, images), model.predict(images)
    print(f"largest difference on 100 images: {np.abs(found - expected).max():.1e}")
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.ptp(expected.argmax(axis=1)) == 9


def test_an_exported_page_recognizes_drawings_without_a_request(visit, exported):
    opened = visit(exported.as_uri())
    opened.context.set_offline(True)
    for digit in DIGITS:
        opened.page.get_by_role("button", name="Clear").click()
        opened.draw(strokes(digit, "slanted")[0])
        assert opened.page.locator("#answer").inner_text().startswith(f"It is {digit}, with ")
    assert [url for url in opened.requests if not url.startswith("data:")] == [exported.as_uri()]
    assert opened.faults == []


def _mixed(x):
    """A network with one of each step that an exported page can compute."""
    x = nc.BatchNorm()(nc.Conv2D(8, 3, stride=2, padding="same", groups=1)(x))
    skip = nc.Conv2D(8, 3, padding=2, dilation=2, groups=2)(nc.SiLU()(x))
    x = nc.Add()([nc.PReLU()(x), nc.Hardswish()(skip)])
    x = nc.Concat()([nc.MaxPool2D(3, 2, padding=1)(x), nc.AvgPool2D(3, 2, padding=1)(x)])
    x = nc.Multiply()([nc.DepthwiseConv2D(3, padding=1, bias=False)(x), nc.GlobalAvgPool2D(keepdims=True)(x)])
    x = nc.Concat()([nc.AdaptiveAvgPool2D(3)(nc.ELU()(x)), nc.AdaptiveMaxPool2D(3)(nc.Tanh()(x))])
    x = nc.Concat()([nc.Hardsigmoid()(x), nc.Sigmoid()(x), nc.LeakyReLU(0.1)(x)])
    x = nc.Flatten()(nc.AvgPool2D(2, 1, padding=1, count_include_pad=False)(nc.ReLU6()(x)))
    return nc.Softmax()(nc.Dense(4)(nc.Dropout(0.5)(nc.ReLU()(nc.Dense(16)(x)))))


def test_every_step_of_an_exported_page_is_the_engines(visit, tmp_path, rng):
    inputs = nc.Input((13, 11, 3))
    model = nc.Model(inputs, _mixed(inputs), seed=2)
    last = model.parameters["dense_2.weight"]
    model.set_parameters({"dense_2.weight": 20 * last, "prelu_1.weight": rng.normal(size=8)})
    model.set_parameters({name: rng.uniform(0.5, 2, a.shape) for name, a in model.state.items()})
    export_page(model, tmp_path / "mixed.html")
    images = rng.integers(0, 256, (20, 13, 11, 3), np.uint8)
    found, expected = predicted(visit((tmp_path / "mixed.html").as_uri()).page, images), model.predict(images)
    assert np.abs(expected - expected[0]).max() > 0.01
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.fixture(scope="module")
def training(browser, tmp_path_factory):
    """A training of ten seconds or more with its page: the process, and its address."""
    out = tmp_path_factory.mktemp("run") / "digits"
    arguments = ["--epochs", 400, "--batch-size", 16, "--augment", "rotate=10", "--out", out, "--dashboard-port", 0]
    child = process("train", "--dashboard", *arguments)
    line = ""
    while not (found := re.search(r"dashboard: (http://\S+)", line)):
        line = child.stderr.readline()
        assert line, "the training ended"
    drain = threading.Thread(target=child.stderr.read, daemon=True)
    drain.start()
    yield child, found[1]
    child.kill()
    child.wait()
    drain.join()
    child.stdout.close()
    child.stderr.close()


def shows_a_training(opened):
    opened.wait("numbacnn.training.points.length > 2 && numbacnn.training.epochs.length > 1", 60)


@pytest.mark.parametrize("width", [390, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_in_the_other_pages(visit, training, exported, axe, width, scheme):
    for url in (training[1], exported.as_uri()):
        opened = visit(url, width, scheme)
        if url == training[1]:
            shows_a_training(opened)
        assert opened.serious(axe) == []
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_page_of_a_training_shows_it_survives_a_reload_and_ends_with_it(visit, training):
    child, url = training
    opened = visit(url)
    shows_a_training(opened)
    first = opened.page.evaluate("numbacnn.training.points[1]")
    assert set(first["norms"]) == {"conv2d_1", "conv2d_2", "dense_1", "dense_2", "dense_3"}
    assert all(norm > 0 for norm in first["norms"].values())
    assert first["images_per_second"] > 100
    assert first["learning_rate"] == pytest.approx(0.01, rel=0.01)  # the default, and its schedule
    assert opened.page.locator("#filters canvas").count() == 6
    top = "document.getElementById('pad').getBoundingClientRect().top + scrollY"
    before, epoch = opened.page.evaluate(top), opened.page.evaluate("numbacnn.training.epochs.length")
    opened.wait(f"numbacnn.training.epochs.length > {epoch}", 60)
    assert opened.page.evaluate(top) == before  # so that a stroke is not torn while the training continues
    opened.page.reload()
    shows_a_training(opened)
    assert opened.page.evaluate("numbacnn.training.points[1]") == first
    steps = opened.page.evaluate("numbacnn.training.points.map(point => point.step)")
    assert steps == sorted(set(steps))
    label = opened.page.locator("#loss").get_attribute("aria-label")
    assert re.fullmatch(r"training [\d.e-]+, validation [\d.e-]+", label)
    opened.draw(strokes("3", "slanted")[0])  # looked at with the weights of the moment
    opened.settle()
    probabilities = opened.page.evaluate("numbacnn.state.prediction.probabilities")
    assert sum(probabilities.values()) == pytest.approx(1, abs=1e-5)
    assert opened.page.locator("#answer").inner_text().startswith("It is ")
    child.terminate()
    opened.wait("numbacnn.training.ended", 30)
    assert opened.page.locator("#progress").inner_text().startswith("The training has ended: epoch ")
    assert child.wait(30) == 143
    assert opened.faults == []
