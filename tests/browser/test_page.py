"""The page of a model, in Chromium: drawing, feature maps, one number, damage, keyboard, contrast."""

import base64
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from browsing import serving
from hands import DIGITS, HANDS, strokes

import numbacnn as nc
from numbacnn.data.palette import mask_colors

both_widths = pytest.mark.parametrize("width", [390, 1400])
THREE = strokes("3", "off-center")[0]


def pixels_of(page, shape=(28, 28, 1)):
    """The input of the network, as the page asked for it."""
    text = page.evaluate("btoa(String.fromCharCode(...numbacnn.state.pixels))")
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(shape)


@both_widths
def test_a_drawn_3_is_recognized_and_its_bars_are_the_engines(visit, bundled, model, width):
    opened = visit(bundled, width)
    opened.draw(THREE)
    assert opened.answer() == "3"
    shown = opened.page.locator("#bars .number").all_inner_texts()
    expected = model.predict(pixels_of(opened.page))[0]
    assert shown == [f"{100 * p:.1f} %" for p in expected]
    assert opened.page.locator("#bars .best").inner_text() == "3"
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    assert opened.faults == []


def test_no_request_leaves_the_server(visit, bundled):
    opened = visit(bundled)
    opened.draw(THREE)
    opened.page.get_by_role("button", name="Test image").click()
    opened.settle()
    assert {urlsplit(url).netloc for url in opened.requests if not url.startswith("data:")} == {
        urlsplit(bundled).netloc
    }
    assert len(opened.requests) > 5


def test_a_drawing_gets_the_form_of_the_training_set(visit, bundled):
    """Box, center of mass and stroke width are those of the training images, whatever the hand."""
    opened = visit(bundled)
    opened.wait("numbacnn.state.model")
    form = opened.page.evaluate("numbacnn.state.model.form")
    for hand in HANDS:
        opened.page.get_by_role("button", name="Clear").click()
        drawn, width = strokes("5", hand)
        opened.page.evaluate(f"pad.width = {width}")
        opened.draw(drawn)
        opened.settle()
        ink = pixels_of(opened.page)[..., 0] / 255
        rows, columns = np.nonzero(ink > 0.1)
        assert abs(max(np.ptp(rows), np.ptp(columns)) + 1 - form["box"]) <= 1, hand
        positions = (np.arange(28) + 0.5) * ink.sum(axis=1), (np.arange(28) + 0.5) * ink.sum(axis=0)
        assert np.allclose([position.sum() / ink.sum() for position in positions], 14, atol=0.15), hand


def test_fifty_digits_in_five_hands(visit, bundled):
    opened = visit(bundled)
    wrong = []
    for hand in HANDS:
        for digit in DIGITS:
            opened.page.get_by_role("button", name="Clear").click()
            drawn, width = strokes(digit, hand)
            opened.page.evaluate(f"pad.width = {width}")
            opened.draw(drawn)
            if (found := opened.answer()) != digit:
                wrong.append(f"{digit} {hand}: {found}")
    print(f"{50 - len(wrong)} of 50 digits recognized; wrong: {wrong}")
    assert len(wrong) <= 2, wrong


@both_widths
@pytest.mark.parametrize("layer", ["pair1.conv1", "pair2.conv2", "pool1", "pair1.relu1", "dense_1"])
def test_a_click_on_a_map_explains_the_engines_number(visit, bundled, model, width, layer):
    opened = visit(bundled, width)
    opened.draw(THREE)
    opened.settle()
    names = opened.page.evaluate("views.map(view => view.layer.name)")
    canvas = opened.page.locator(".layer canvas").nth(names.index(layer))
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    canvas.click(position={"x": box["width"] * 0.45, "y": box["height"] * 0.3})
    opened.wait("numbacnn.state.explained")
    found = opened.page.evaluate("numbacnn.state.explained")
    assert found["layer"] == layer
    value = model.activations(pixels_of(opened.page), [layer])[layer][0]
    position = tuple(found["pixel"]) if value.ndim == 3 else found["pixel"][2]
    assert found["value"] == pytest.approx(value[position], abs=1e-4)
    where = f"row {found['pixel'][0]}" if value.ndim == 3 else f"feature {found['pixel'][2]}"
    assert opened.page.locator("#why").inner_text().startswith(f"{layer}, {where}")
    if "sum" in found and found.get("bias") is not None:
        assert found["sum"] + found["bias"] == pytest.approx(found["value"], abs=1e-4)


def test_a_broken_network_loses_its_accuracy_and_is_repaired(visit, bundled):
    opened = visit(bundled)
    opened.wait("numbacnn.state.score")
    before = opened.page.evaluate("numbacnn.state.score")
    opened.page.locator(".layer").last.get_by_role("button", name="Switch off").click()
    opened.wait("numbacnn.state.score < 0.2")
    assert "unchanged" in opened.page.locator("#score").inner_text()
    opened.page.get_by_role("button", name="Repair").click()
    opened.wait(f"numbacnn.state.score === {before}")
    opened.page.locator("#noise").fill("2")
    opened.wait(f"numbacnn.state.score < {before - 0.1}")
    opened.page.get_by_role("button", name="Repair").click()
    opened.page.locator("#cover").fill("0.6")
    opened.wait(f"numbacnn.state.score !== null && numbacnn.state.score < {before - 0.1}")


def test_a_test_image_is_the_input_and_its_evidence_is_shown(visit, bundled, model):
    opened = visit(bundled)
    opened.page.get_by_role("button", name="Test image").click()
    opened.wait("pad.exact")
    opened.settle()
    index, name = opened.page.locator("#label").inner_text().removeprefix("Test image ").split(": ")
    _, test = nc.data.load("digits")
    np.testing.assert_array_equal(pixels_of(opened.page), test.images[int(index)])
    assert name == test.classes[test.labels[int(index)]]
    assert opened.page.locator("#cam-caption").inner_text().startswith("Grad-CAM: evidence for")


def test_a_dropped_picture_with_dark_ink_is_recognized(visit, bundled):
    """A 4 in dark ink on light paper, small and off-center, dropped as a PNG file."""
    opened = visit(bundled)
    drop = """
    async strokes => {
        const canvas = makeCanvas(300, 200), context = canvas.getContext('2d');
        context.fillStyle = '#eee';
        context.fillRect(0, 0, 300, 200);
        context.translate(180, 60);
        paint(context, strokes.map(points => ({points})), ([x, y]) => [90 * x, 110 * y], () => 8, '#223');
        const blob = await new Promise(done => canvas.toBlob(done)), transfer = new DataTransfer();
        transfer.items.add(new File([blob], 'four.png', {type: 'image/png'}));
        document.dispatchEvent(new DragEvent('drop', {dataTransfer: transfer}));
    }
    """
    opened.page.evaluate(drop, DIGITS["4"])
    opened.wait("pad.base")
    opened.page.wait_for_timeout(300)
    assert opened.answer() == "4"


PASTE = """
async strokes => {
    const canvas = makeCanvas(300, 200), transfer = new DataTransfer();
    const position = ([x, y]) => [100 + 90 * x, 40 + 110 * y];
    paint(canvas.getContext('2d'), strokes.map(points => ({points})), position, () => 8, '#000');
    const blob = await new Promise(done => canvas.toBlob(done));
    transfer.items.add(new File([blob], 'image.png', {type: 'image/png'}));
    document.dispatchEvent(new ClipboardEvent('paste', {clipboardData: transfer}));
}
"""
PASTE_TEXT = """
const transfer = new DataTransfer();
transfer.setData('text/plain', 'four');
document.dispatchEvent(new ClipboardEvent('paste', {clipboardData: transfer}));
"""


def test_a_pasted_transparent_picture_is_recognized_and_text_is_not_taken_for_one(visit, bundled):
    """Black ink on nothing, which the paper of light strokes would hide."""
    opened = visit(bundled)
    opened.page.evaluate(PASTE, DIGITS["4"])
    opened.wait("pad.base && numbacnn.state.prediction && numbacnn.state.prediction.class === '4'")
    opened.page.evaluate(PASTE_TEXT)
    status = opened.page.locator("#status")
    assert status.inner_text() == "That is not an image that this browser can read."
    opened.page.get_by_role("button", name="Clear").click()
    opened.settle()
    assert status.inner_text() == ""


def test_the_page_says_that_its_server_was_stopped(visit, browser):
    with serving() as url:
        opened = visit(url)
        opened.draw(THREE)
        opened.settle()
    opened.draw(THREE)
    opened.wait("byId('status').textContent")
    assert opened.page.locator("#status").inner_text().startswith("The server does not answer.")
    assert opened.page.locator("#status").bounding_box()["y"] >= 0
    opened.page.evaluate("scrollTo(0, 2000)")
    assert opened.page.locator("#status").bounding_box()["y"] >= 0  # seen from the maps too


def test_a_narrow_page_leads_back_from_a_number_to_its_map(visit, bundled):
    opened = visit(bundled, 390)
    opened.draw(THREE)
    opened.settle()
    canvas = opened.page.locator(".layer canvas").nth(3)
    canvas.click(position={"x": 20, "y": 20})
    opened.page.get_by_role("button", name="Back to pair1.conv2").click()
    assert opened.page.evaluate("document.activeElement === document.querySelectorAll('.layer canvas')[3]")
    assert 0 <= canvas.bounding_box()["y"] <= 200


def test_everything_works_with_the_keyboard_alone(visit, bundled, model):
    opened = visit(bundled)
    keyboard, page = opened.page.keyboard, opened.page
    opened.wait("numbacnn.state.model")
    keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "pad"
    for _ in range(9):
        keyboard.press("ArrowUp")
    keyboard.press("Space")
    for _ in range(18):
        keyboard.press("ArrowDown")
    keyboard.press("Space")
    assert opened.answer() == "1"
    reached = set()
    for _ in range(80):
        keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
        if page.evaluate("document.activeElement.matches('.layer canvas')"):
            break
    assert {"clear", "undo", "example", "file", "noise", "seed", "cover", "repair", "cam-class"} <= reached
    keyboard.press("ArrowRight")
    keyboard.press("ArrowDown")
    keyboard.press("Enter")
    opened.wait("numbacnn.state.explained")
    found = page.evaluate("numbacnn.state.explained")
    assert found["pixel"] == [1, 1, 0]
    assert found["value"] == pytest.approx(
        model.activations(pixels_of(page), [found["layer"]])[found["layer"]][0, 1, 1, 0]
    )


@both_widths
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(visit, bundled, axe, width, scheme):
    opened = visit(bundled, width, scheme)
    opened.draw(THREE)
    opened.settle()
    opened.page.locator(".layer canvas").first.click(position={"x": 20, "y": 20})
    opened.wait("numbacnn.state.explained")
    assert opened.serious(axe) == []


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    """Files of models for the other tasks, and of color images."""
    folder = tmp_path_factory.mktemp("models")
    for name, task, shape in (("unet_small", "segment", (32, 32, 3)), ("grid_detector", "detect", (64, 64, 3))):
        model = nc.models.make(name, input_shape=shape, classes=3, seed=1)
        model.task, model.classes = task, ("ground", "10", "9")  # which JavaScript's objects order otherwise
        model.save(folder / f"{task}.safetensors")
    return folder


@pytest.mark.parametrize("task", ["segment", "detect"])
def test_masks_and_boxes_are_shown_for_the_other_tasks(visit, browser, untrained, task):
    with serving(Path(untrained) / f"{task}.safetensors") as url:
        opened = visit(url)
        opened.draw([[(0.2, 0.2), (0.8, 0.8)]])
        opened.wait("numbacnn.state.prediction")
        opened.settle()
        found = opened.page.evaluate("numbacnn.state.prediction")
        pixels = pixels_of(opened.page, opened.page.evaluate("numbacnn.state.model.input_shape"))
        model = nc.load(Path(untrained) / f"{task}.safetensors")
        if task == "detect":
            expected = model.detect(pixels[None])[0]
            assert len(found["boxes"]) == len(expected.boxes)
        else:
            mask = model.segment(pixels[None])[0]
            order = opened.page.locator("#bars .name").all_inner_texts()
            assert order == [name for name in model.class_names if name in found["shares"]]
            swatch = "getComputedStyle(document.querySelector('#bars .swatch')).backgroundColor"
            color = mask_colors(len(order))[model.class_names.index(order[0])]
            assert opened.page.evaluate(swatch) == f"rgb({', '.join(map(str, color))})"
            assert found["shares"] == {model.class_names[i]: np.mean(mask == i) for i in np.unique(mask)}
        assert opened.page.evaluate("document.getElementById('input').width") >= 300
        assert opened.faults == []
