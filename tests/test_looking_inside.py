"""The contents of the served page: how numbers are computed, damage, the form of strokes, batches; without a server."""

import threading
import time
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest

import numbacnn as nc
from numbacnn.engine.locks import engine_lock
from numbacnn.errors import ArgumentError, DataError
from numbacnn.serve.batching import Batcher, settle
from numbacnn.serve.bundled import load_bundled, load_form
from numbacnn.serve.changes import Changes, Occlusion
from numbacnn.serve.dashboard import Budget
from numbacnn.serve.explanation import MAX_TERMS, Pixel
from numbacnn.serve.export import SCRIPTS, describe, export_page
from numbacnn.serve.prediction import Upload, predict
from numbacnn.serve.strokes import StrokeForm, stroke_widths
from numbacnn.serve.turns import Turns
from numbacnn.serve.workbench import Workbench

SHAPE = (9, 8, 3)


def upload_of(model, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, model.input_shape, np.uint8)
    return Upload.raw(model, pixels.tobytes())


# -- one number -------------------------------------------------------------------------------------------------------

LAYERS = {
    "conv": [nc.Conv2D(6, 3, stride=2, padding="same", groups=3, dilation=2)],
    "no bias": [nc.Conv2D(2, (1, 3), bias=False), nc.Tanh()],
    "depthwise": [nc.DepthwiseConv2D(3, depth_multiplier=2)],
    "transposed": [nc.Conv2DTranspose(6, 3, stride=2, padding=1, groups=3)],
    "max": [nc.MaxPool2D(3, 2, padding=1)],
    "average": [nc.AvgPool2D(3, 2, padding=1, ceil_mode=True)],
    "average without padding": [nc.AvgPool2D(3, 2, padding=1, count_include_pad=False)],
    "global": [nc.GlobalAvgPool2D()],
    "adaptive": [nc.AdaptiveAvgPool2D((4, 3))],
    "adaptive max": [nc.AdaptiveMaxPool2D((4, 3))],
    "dense": [nc.Flatten(), nc.Dense(5)],
    "batch norm": [nc.BatchNorm()],
    "relu": [nc.ReLU()],
    "prelu": [nc.PReLU()],
}


def computed(found):
    """The value of an explanation, from the numbers that it lists."""
    bias = found.get("bias") or 0.0
    if found["kind"] == "products":
        assert found["sum"] == pytest.approx(sum(np.sum(np.multiply(w["x"], w["w"])) for w in found["windows"]))
        return found["sum"] + bias
    if found["kind"] == "terms":
        listed = sum(term["x"] * term["w"] for term in found["terms"])
        assert len(found["terms"]) + found["others"] == np.prod(SHAPE)
        assert listed + found["rest"] == pytest.approx(found["sum"], abs=1e-5)
        return found["sum"] + bias
    if found["kind"] == "window":
        values = [value for row in found["x"] for value in row if value is not None]
        return found["sum"] / found["count"] if "count" in found else max(values)
    numbers = found["numbers"]
    if found["op"] == "batch_norm":
        scale = numbers["weight"] / np.sqrt(numbers["variance"] + numbers["ε"])
        return (numbers["x"] - numbers["mean"]) * scale + numbers["bias"]
    return numbers["x"] if numbers["x"] > 0 else numbers.get("weight", 0.0) * numbers["x"]


@pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)
def test_the_numbers_listed_give_the_engines_value(layers, rng):
    model = nc.Sequential(layers, SHAPE, seed=1)
    model.set_parameters({name: rng.normal(size=a.shape) for name, a in model.parameters.items()})
    model.set_parameters({name: rng.uniform(0.5, 2, a.shape) for name, a in model.state.items()})
    bench, upload = Workbench(model), upload_of(model)
    node = model.graph.nodes[1 if isinstance(layers[0], nc.Flatten) else 0]
    output = model.activations(upload.pixels[None], [node.name])[node.name][0]
    output = output.reshape((1, 1, -1)) if output.ndim == 1 else output
    for position in {(0, 0, 0), tuple(n - 1 for n in output.shape), tuple(n // 2 for n in output.shape)}:
        found = bench.explain(upload, Changes(), node.name, Pixel(*position))
        assert found["value"] == output[position]
        assert computed(found) == pytest.approx(found["value"], rel=1e-4, abs=1e-4)


def test_the_activation_after_a_layer_is_shown_too():
    model = nc.Sequential([nc.Conv2D(2, 3), nc.Tanh()], SHAPE)
    found = Workbench(model).explain(upload_of(model), Changes(), "conv2d_1", Pixel(1, 2, 1))
    assert found["activation"]["formula"] == "tanh(x)"
    assert found["activation"]["value"] == pytest.approx(np.tanh(found["value"]), rel=1e-5)


def test_padding_is_marked_and_long_sums_are_shortened():
    model = nc.Sequential([nc.Conv2D(2, 3, padding=1), nc.Flatten(), nc.Dense(3)], SHAPE)
    bench, upload = Workbench(model), upload_of(model)
    found = bench.explain(upload, Changes(), "conv2d_1", Pixel(0, 7, 0))
    assert (found["rows"], found["columns"]) == ([None, 0, 1], [6, 7, None])
    assert len(bench.explain(upload, Changes(), "dense_1", Pixel(0, 0, 2))["terms"]) == MAX_TERMS
    with pytest.raises(ArgumentError, match=r"there is no \(9, 0, 0\)"):
        bench.explain(upload, Changes(), "conv2d_1", Pixel(9, 0, 0))


# -- looks ------------------------------------------------------------------------------------------------------------


def test_a_look_has_prediction_maps_and_grad_cam():
    model = nc.models.lenet5()
    upload = upload_of(model)
    found = Workbench(model).look(upload, Changes())
    (expected,) = predict(model, [upload])
    assert found.header["prediction"]["class"] == expected["class"]
    assert found.header["prediction"]["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-6)
    outputs, start = model.activations(upload.pixels[None]), 0
    for layer in found.header["layers"]:
        values = outputs[layer["name"]][0]
        assert (layer["low"], layer["high"]) == (values.min(), values.max())
        values = values.transpose(2, 0, 1)[: layer["count"]] if values.ndim == 3 else values[: layer["count"]]
        shown = np.frombuffer(found.content, np.uint8, values.size, start).reshape(values.shape)
        expected = (values - layer["low"]) / (layer["high"] - layer["low"]) * 255
        assert np.abs(shown - expected).max() <= 1.01
        start += values.size
    cam = found.header["cam"]
    names, chosen = model.class_names, cam["class"]
    heat = nc.plots.class_activation_map(model, upload.pixels[None], [names.index(chosen)])[0]
    shown = np.frombuffer(found.content, np.uint8, heat.size, start).reshape(heat.shape)
    assert np.abs(shown - 255 * heat / heat.max()).max() <= 1.01
    assert start + heat.size == len(found.content)


def test_some_layers_can_be_asked_for_and_one_of_them_whole():
    model = nc.models.lenet5()
    found = Workbench(model).look(upload_of(model), Changes(), whole="conv2d_2", shown={"conv2d_1", "conv2d_2"})
    assert {layer["name"]: layer["count"] for layer in found.header["layers"]} == {"conv2d_1": 6, "conv2d_2": 16}
    (h, w), (p, q) = (model.graph.shapes[i][:2] for i in (1, model.graph.names.index("conv2d_2")))
    cam = found.header["cam"]["shape"]
    assert len(found.content) == 6 * h * w + 16 * p * q + cam[0] * cam[1]


def test_a_workbench_takes_the_weights_of_a_training():
    model = nc.models.lenet5()
    bench, upload = Workbench(model), upload_of(model)
    before = bench.look(upload, Changes()).header["prediction"]
    model.set_parameters({name: 2 * array for name, array in model.parameters.items()})
    assert bench.look(upload, Changes()).header["prediction"] == before
    bench.refresh()
    found = bench.look(upload, Changes()).header["prediction"]["probabilities"]
    assert found == pytest.approx(predict(model, [upload])[0]["probabilities"], abs=1e-6)


def test_a_workbench_takes_the_normalization_classes_and_task_that_a_training_sets():
    train = nc.data.load("digits")[0].subset(np.arange(64))
    train = nc.data.Dataset.from_arrays(train.images, train.labels, [f"digit {i}" for i in range(10)])
    model = nc.models.lenet5()
    bench, upload = Workbench(model, train), upload_of(model)
    bench.look(upload, Changes())
    model.fit(train, epochs=1, batch_size=64, progress=False)
    bench.refresh()
    found = bench.look(upload, Changes()).header["prediction"]["probabilities"]
    assert found == pytest.approx(predict(model, [upload])[0]["probabilities"], abs=1e-6)
    assert bench.measure(Changes(), None)["score"] == model.evaluate(train)["accuracy"]
    model.task = "tag"  # and nothing else
    bench.refresh()
    found = bench.look(upload, Changes()).header
    assert found["prediction"]["probabilities"] == pytest.approx(predict(model, [upload])[0]["probabilities"], abs=1e-6)
    assert found["cam"] is None


def test_looks_run_between_the_steps_of_a_training():
    turns, order = Turns(), []

    def look():
        with turns:
            order.append("look")

    turns.offer()  # costs nothing while nobody waits
    thread = threading.Thread(target=look)
    thread.start()
    while not turns._asked:
        time.sleep(0.001)
    order.append("step")
    turns.offer()
    order.append("step")
    thread.join(10)
    assert order == ["step", "look", "step"]
    turns.end()
    look()  # at once
    assert order[-1] == "look"


def test_what_takes_long_is_done_rarely():
    budget = Budget(0.1)
    with budget:
        end = time.thread_time() + 0.05
        while time.thread_time() < end:
            pass
    assert not budget.allows()
    budget._start -= 1.1  # of 1.1 s, two times 0.05 are less than a tenth
    assert budget.allows()


# -- damage -----------------------------------------------------------------------------------------------------------


def test_a_filter_that_is_off_is_zero_and_repaired_the_bits_are_as_before():
    model = nc.Sequential([nc.Conv2D(4, 3), nc.Flatten(), nc.Dense(3)], SHAPE, seed=3)
    bench, upload = Workbench(model), upload_of(model)
    before = bench.look(upload, Changes())
    off = Changes.from_json({"off": [["conv2d_1", 2]]}, model.graph)
    assert bench.explain(upload, off, "conv2d_1", Pixel(1, 1, 2))["value"] == 0
    assert bench.explain(upload, off, "conv2d_1", Pixel(1, 1, 1))["value"] != 0
    whole = Changes.from_json({"off": [["dense_1", None]]}, model.graph)
    probabilities = bench.look(upload, whole).header["prediction"]["probabilities"]
    assert list(probabilities.values()) == pytest.approx([1 / 3] * 3)
    assert bench.look(upload, Changes()) == before
    np.testing.assert_array_equal(model.parameters["dense_1.weight"], bench._arrays["dense_1.weight"])


def test_a_filter_of_a_transposed_convolution_in_groups_is_off_alone():
    layers = [nc.Conv2D(4, 3), nc.Conv2DTranspose(6, 3, groups=2), nc.Flatten(), nc.Dense(3)]
    model = nc.Sequential(layers, SHAPE, seed=3)
    bench, upload = Workbench(model), upload_of(model)
    for index in range(6):
        off = Changes.from_json({"off": [["conv2d_transpose_1", index]]}, model.graph)
        values = [bench.explain(upload, off, "conv2d_transpose_1", Pixel(3, 3, i))["value"] for i in range(6)]
        assert [i for i, value in enumerate(values) if value == 0] == [index]


def test_noise_has_the_size_that_was_asked_for():
    model = nc.Sequential([nc.Flatten(), nc.Dense(200)], (20, 20, 1), seed=3)
    changed = nc.Sequential([nc.Flatten(), nc.Dense(200)], (20, 20, 1))
    Changes(noise=0.5, seed=4).apply(changed, dict(model.parameters))
    noise = changed.parameters["dense_1.weight"] - model.parameters["dense_1.weight"]
    assert noise.std() == pytest.approx(0.5 * model.parameters["dense_1.weight"].std(), rel=0.02)


def test_damage_lowers_the_score_on_test_images():
    model, (_, test) = load_bundled("mnist"), nc.data.load("digits")
    bench = Workbench(model, test)
    whole = bench.measure(Changes(), None)
    assert whole == {"score": pytest.approx(0.95, abs=0.05), "name": "accuracy", "images": len(test)}
    assert bench.measure(Changes(noise=2.0), None)["score"] < whole["score"] - 0.2
    assert bench.measure(Changes(), Occlusion(0.1, 0.1, 0.8))["score"] < whole["score"] - 0.2
    assert bench.measure(Changes(), None) == whole


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ([], "pass an object"),
        ({"nois": 1}, "pass an object"),
        ({"noise": "1"}, "pass a number of at least 0 and at most 5"),
        ({"noise": 6}, "pass a number"),
        ({"seed": -1}, "pass a whole number"),
        ({"off": 3}, "pass a list"),
        ({"off": [["relu_1", None]]}, "layers with weights"),
        ({"off": [["conv2d_1", 6]]}, "6 filters"),
        ({"off": [["conv2d_1", True]]}, "6 filters"),
        ({"off": [["conv2d_1"]]}, "pass pairs"),
    ],
)
def test_bad_changes_are_rejected(form, message):
    with pytest.raises(ArgumentError, match=message):
        Changes.from_json(form, nc.models.lenet5().graph)


# -- the form of strokes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [2, 3, 5])
def test_the_width_of_a_long_stroke(width):
    ink = np.zeros((1, 64, 64))
    ink[0, 10:60, 20 : 20 + width] = 1
    assert stroke_widths(ink)[0] == pytest.approx(width, rel=0.12)


def test_the_bundled_digits_are_in_a_box_of_20_pixels():
    train, _ = nc.data.load("digits")
    form = StrokeForm.of(train.images, light=True)
    assert form == StrokeForm(20.0, pytest.approx(3.8, abs=0.2), "box", True)
    assert StrokeForm.of(255 - train.images, light=False) == form._replace(light=False)


def test_images_that_are_no_strokes_have_no_form(rng):
    assert StrokeForm.of(rng.integers(0, 256, (50, 28, 28, 1), np.uint8), light=True) is None
    assert StrokeForm.of(np.zeros((5, 28, 28, 1), np.uint8), light=True) is None


# -- the bundled model, and exported pages ----------------------------------------------------------------------------


def test_the_bundled_model_is_as_its_record_says(data_folder):
    import tomllib

    file = Path(nc.__file__).parent / "serve/models/mnist.toml"
    record = tomllib.loads(file.read_text())
    assert record["test"]["accuracy"] >= 0.994
    assert file.with_suffix(".safetensors").stat().st_size < 400_000
    _, test = nc.data.load(data_folder / "mnist")
    model = load_bundled("mnist")
    assert model.evaluate(test)["accuracy"] == pytest.approx(record["test"]["accuracy"], abs=2e-4)
    assert StrokeForm.of(test.images, light=True) == pytest.approx(load_form("mnist"), abs=0.2)


def test_an_exported_lenet5_is_small_and_loads_nothing(tmp_path):
    size = export_page(nc.models.lenet5(), tmp_path / "page.html", name="</script><b>Mine")
    text = (tmp_path / "page.html").read_text("utf-8")
    assert size == len(text.encode()) <= 400_000
    assert "http" not in text.replace('meta http-equiv="Content-Security-Policy"', "")
    assert text.count("</script>") == 1  # a name cannot end the script


def test_a_layer_that_a_page_cannot_compute_is_named():
    model = nc.Sequential([nc.GroupNorm(1), nc.Flatten(), nc.Dense(2)], SHAPE)
    with pytest.raises(ArgumentError, match='cannot compute the GroupNorm "group_norm_1"; export to ONNX'):
        describe(model, "x", None)
    model = nc.models.grid_detector()
    model.task = "detect"
    with pytest.raises(ArgumentError, match="can be exported of a classifier"):
        describe(model, "x", None)


def test_the_pages_are_below_100_kilobytes():
    from numbacnn.serve.app import PAGE_SCRIPTS
    from numbacnn.serve.pages import page

    assert len(page("page.html", PAGE_SCRIPTS).encode()) < 100_000
    assert "<!--" not in page("page.html", PAGE_SCRIPTS) + page("export.html", SCRIPTS)


# -- batches ----------------------------------------------------------------------------------------------------------


def batcher_of(work, **options):
    return Batcher(lambda item: item, work, settle, **options)


def submitted(batcher, item):
    future = Future()
    batcher.submit(item, future)
    return future


def test_what_waits_together_is_computed_together_in_powers_of_two():
    sizes, release = [], threading.Event()

    def work(items):
        sizes.append(len(items))
        release.wait(10)
        return [item * 2 for item in items]

    batcher = batcher_of(work, size=8)
    futures = [submitted(batcher, 0)]
    while not sizes:
        time.sleep(0.001)
    futures += [submitted(batcher, i) for i in range(1, 20)]
    while len(batcher._prepared) < 19:
        time.sleep(0.001)
    release.set()
    assert [future.result(10) for future in futures] == [2 * i for i in range(20)]
    assert sizes == [1, 8, 8, 2, 1]
    batcher.close()


def test_one_bad_item_fails_alone_and_a_full_queue_rejects():
    started, release = threading.Event(), threading.Event()

    def prepare(item):
        started.set()
        release.wait(10)
        if item == "damaged":
            raise DataError("damaged item")
        return item

    def work(items):
        if "bad" in items:
            raise DataError("bad item")
        return items

    batcher = Batcher(prepare, work, settle, size=8, capacity=4)
    first = [submitted(batcher, "first"), submitted(batcher, "second")]  # one for each thread
    while batcher._waiting:
        time.sleep(0.001)
    futures = [submitted(batcher, item) for item in ("a", "bad", "b", "damaged")]
    with pytest.raises(BufferError, match="4 requests wait already"):
        batcher.submit("c", Future())
    release.set()
    found = [future.result(10) for future in (*first, futures[0], futures[2])]
    assert found == ["first", "second", "a", "b"]
    for wrong in futures[1], futures[3]:
        with pytest.raises(DataError):
            wrong.result(10)
    batcher.close()


@pytest.mark.parametrize("name", ["mnist", "lenet5", "resnet20", "unet_small"])
def test_a_prediction_has_the_same_bits_in_any_batch(name):
    """Other images of a batch change no probability."""
    model = load_bundled("mnist") if name == "mnist" else nc.models.make(name)
    images = np.random.default_rng(0).integers(0, 256, (17, *model.input_shape), np.uint8)
    with engine_lock:
        model.reserve_outputs(64, 64)
    alone = np.concatenate([model.predict(image[None]) for image in images])
    for size in (2, 4, 16, 17):
        np.testing.assert_array_equal(model.predict(images[:size]), alone[:size])
