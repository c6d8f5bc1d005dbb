"""HTML of models, summaries, histories and reports in notebooks, and the drawing of a graph as SVG."""

import re
import signal
import threading
import traceback
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest

import numbacnn as nc
from numbacnn._checks import html
from numbacnn.inspection.drawing import Drawing
from numbacnn.inspection.layered import arrange
from numbacnn.metrics import Report
from numbacnn.training.events import EpochRecord

VOID = {"br"}


class Balanced(HTMLParser):
    """Checks that every tag is closed, in order."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def checked(text):
    parser = Balanced()
    parser.feed(text)
    parser.close()
    assert not parser.open
    return text


def svg(model, compact=False):
    return ET.fromstring(str(model.plot(compact)))


def texts(root):
    return [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]


def boxes(root):
    """(left, top, right, bottom) of every box."""
    for group in root.iter("{http://www.w3.org/2000/svg}g"):
        rect = group.find("{http://www.w3.org/2000/svg}rect")
        x, y, width, height = (float(rect.get(name)) for name in ("x", "y", "width", "height"))
        yield x, y, x + width, y + height


@pytest.fixture(scope="module")
def lenet():
    return nc.models.lenet5()


def test_a_drawing_has_a_box_for_each_layer_with_name_kind_and_shape(lenet):
    found = texts(svg(lenet))
    assert len(list(boxes(svg(lenet)))) == 1 + len(lenet.layers)
    assert found[:5] == ["input_1", "28×28×1", "conv2d_1", "Conv2D", "28×28×6"]


def test_a_compact_drawing_joins_a_layer_and_its_activation(lenet):
    assert texts(svg(lenet, compact=True))[2:8] == [
        "Conv2D, ReLU",
        "28×28×6",
        "MaxPool2D",
        "14×14×6",
        "Conv2D, ReLU",
        "10×10×16",
    ]


@pytest.mark.parametrize("name", sorted(nc.models.MODELS))
@pytest.mark.parametrize("compact", [False, True])
def test_boxes_of_every_architecture_are_apart_and_inside(name, compact):
    root = svg(nc.models.make(name), compact)
    width, height = (float(root.get(side)) for side in ("width", "height"))
    found = sorted(boxes(root), key=lambda box: (box[1], box[0]))
    assert min(box[0] for box in found) >= 0
    assert max(box[2] for box in found) <= width
    assert max(box[3] for box in found) <= height
    for left, right in pairwise(found):
        if left[1] == right[1]:  # next to each other
            assert left[2] + 10 < right[0]
        else:
            assert max(box[3] for box in found if box[1] == left[1]) + 10 < right[1]


def test_edges_go_down_and_pass_between_boxes():
    spots, edges = arrange([[], [0], [1], [0, 2]], [50, 60, 70, 80], gap=10)
    assert [spot.rank for spot in spots] == [0, 1, 2, 3]
    path = edges[0, 3]
    assert [spot.rank for spot in path] == [0, 1, 2, 3]
    for bend, box in zip(path[1:3], spots[1:3], strict=True):
        assert abs(bend.x - box.x) >= (bend.width + box.width) / 2 + 10 - 1e-9
    assert path[1].x == pytest.approx(path[2].x, abs=3)  # almost straight


def test_an_auxiliary_output_is_dashed():
    x = nc.Input((4, 4, 1))
    h = nc.Flatten()(x)
    model = nc.Model(x, nc.Dense(3)(h), auxiliary=[nc.Dense(3)(h)])
    assert str(model.plot()).count("stroke-dasharray") == 1


def test_a_drawing_is_saved_completely_or_not_at_all(tmp_path, lenet):
    lenet.plot().save(tmp_path / "lenet.svg")
    assert (tmp_path / "lenet.svg").read_text("utf-8") == lenet.plot()._repr_svg_()
    with pytest.raises(nc.ArgumentError, match=r"ends in \.svg"):
        lenet.plot().save(tmp_path / "lenet.png")
    with pytest.raises(nc.ArgumentError, match="there is no folder"):
        lenet.plot().save(tmp_path / "missing" / "lenet.svg")
    assert [path.name for path in tmp_path.iterdir()] == ["lenet.svg"]


def test_a_model_shows_its_drawing_shapes_and_parameters(lenet):
    text = checked(lenet._repr_html_())
    assert text.startswith("<div>Model of 28×28×1</div>")
    assert "<svg" in text
    for cell in ("conv2d_2", "10×10×16", "2,416", "61,706 parameters, 0.846 MFLOP an image"):
        assert cell in text


def test_names_are_escaped():
    report = nc.metrics.Report.of([0, 1, 1], np.eye(2)[[0, 0, 1]], ["<script>", "a & b"])
    text = checked(report._repr_html_())
    assert "<script>" not in text
    assert "a &amp; b as &lt;script&gt; (1)" in text


def test_a_report_shows_what_it_computes():
    text = checked(nc.metrics.Report.of([0, 1, 1], np.eye(2)[[0, 0, 1]], ["a", "b"], top_k=(1, 2))._repr_html_())
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", text)]
    assert rows[1:] == [
        ["a", "0.500", "1.000", "0.667", "1"],
        ["b", "1.000", "0.500", "0.667", "2"],
        ["mean", "0.750", "0.750", "0.667", "3"],
    ]
    assert "accuracy 66.67 %, top-2 accuracy 100.00 %" in text


def record(epoch, loss, validation=None):
    return EpochRecord(epoch, loss, 0.5, validation, validation and 0.25 * epoch, 0.02, 1.5, 100)


def test_a_history_shows_its_epochs_and_curves():
    text = checked(nc.History([record(1, 2.0, 1.0), record(2, float("nan"), 0.5)])._repr_html_())
    assert "2 epochs, the best is 2" in text
    assert "loss, from 0.5 to 2" in text  # NaN is left out
    assert text.count("<circle") == 3 + 4
    assert "nan" not in text


def test_a_history_without_validation_or_epochs():
    assert checked(nc.History([record(1, 2.0)])._repr_html_()).count("<circle") == 2
    assert nc.History()._repr_html_() == "<div>no epoch has ended</div>"


def test_a_long_table_is_cut():
    text = html.table(["n"], [[i] for i in range(1000)])
    assert text.count("<tr>") == 1 + html.MAX_ROWS + 1
    assert "… 800 more rows …" in text
    assert ">99<" in text
    assert ">900<" in text
    assert ">500<" not in text


# -- a cell that is interrupted ---------------------------------------------------------------------------------------


@pytest.fixture
def interruptible():
    """SIGINT raises KeyboardInterrupt, also in a process that was started in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("delay", [0.0, 0.02, 0.1])
def test_a_model_is_usable_after_a_cell_is_interrupted(delay):
    """Jupyter interrupts with SIGINT, at any moment."""
    train, test = nc.data.load("digits")
    model = nc.models.lenet5()
    model.fit(train.subset(np.arange(64)), epochs=1)
    before = model.evaluate(test)["loss"]
    timer = threading.Timer(delay, signal.raise_signal, [signal.SIGINT])

    def start(event):
        if isinstance(event, nc.StepEnd) and event.step == 3 and event.epoch == 2:
            timer.start()

    with pytest.raises(KeyboardInterrupt):
        model.fit(train, epochs=1_000, callbacks=[start], progress=True)
    timer.join()
    assert all(np.isfinite(array).all() for array in model.parameters.values())
    assert model.evaluate(test)["loss"] != before  # it holds what it had learned
    model.fit(train.subset(np.arange(64)), epochs=1)
    assert np.isfinite(model.evaluate(test)["loss"])


HOSTILE = "\x1b[2J\x07\x00\x0c\n<script>alert(1)</script>\"'&\u202e\ufffe"


def test_names_from_files_are_text_and_xml_everywhere(tmp_path):
    """Tags, quotes, controls of a terminal, and characters that XML does not allow, as names of classes."""
    pytest.importorskip("matplotlib")
    names = (HOSTILE, "plain")
    page = html.table([HOSTILE], [[HOSTILE]], HOSTILE) + html.lines([HOSTILE]) + html.curves(HOSTILE, {HOSTILE: [1.0]})
    report = Report(names, np.eye(2, dtype=np.int64), {})
    figure = nc.plots.confusion_matrix(report, HOSTILE)
    nc.plots.save(figure, tmp_path / "confusion.svg")
    texts = [f"<div>{page}</div>", report._repr_html_(), str(Drawing(HOSTILE, 1, 1, ""))]
    for text in [*texts, (tmp_path / "confusion.svg").read_text("utf-8")]:
        assert not set(text) & set("\x1b\x07\x00\x0c\u202e\ufffe")
        assert "<script" not in text
    for text in [texts[0], texts[2], (tmp_path / "confusion.svg").read_text("utf-8")]:
        ET.fromstring(text)


def test_messages_of_errors_have_no_controls():
    error = nc.ArgumentError(HOSTILE)
    assert str(error).startswith(r"\x1b[2J\x07\x00")
    assert "\x1b" not in "".join(traceback.format_exception(error))
