"""Arguments that no kernel could take have errors of ours, not NumPy's or Python's: functions, losses, optimizers."""

import inspect
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import product
from typing import ClassVar

import numpy as np
import pytest

import numbacnn as nc
from numbacnn._checks import shown
from numbacnn.losses import LOSSES
from numbacnn.optimizers import OPTIMIZERS

F, L = nc.functional, nc.losses
IMAGE = np.ones((2, 4, 4, 3), np.float32)
HUGE = 10**5000  # of which Python makes neither a float nor text
NO_ARRAYS = {
    "None": None, "text": "a", "a number": 1, "complex": IMAGE * 1j, "dates": np.zeros(IMAGE.shape, "datetime64[s]"),
    "durations": np.zeros(IMAGE.shape, "timedelta64[s]"), "ragged": [[1.0], [1.0, 2.0]], "an object": object(),
    "a mapping": {}, "texts": np.full(IMAGE.shape, "a"), "None in a list": [[None]],
    "objects": np.full(IMAGE.shape, np.datetime64("2020"), object), "digits": np.full(IMAGE.shape, "1", object),
    "huge integers": np.full(IMAGE.shape, HUGE, object), "a list of huge integers": [HUGE, 1],
}  # fmt: skip
WEIGHTS = {
    F.conv2d: (IMAGE, np.ones((3, 3, 3, 4))),
    F.depthwise_conv2d: (IMAGE, np.ones((3, 3, 1, 3))),
    F.conv2d_transpose: (IMAGE, np.ones((3, 3, 4, 3))),
    F.dense: (np.ones((2, 3)), np.ones((3, 4))),
    F.batch_norm: (IMAGE, np.ones(3), np.ones(3)),
    F.relu: (IMAGE,),
    F.add: ([IMAGE, IMAGE],),
}


@pytest.mark.parametrize("what", NO_ARRAYS)
@pytest.mark.parametrize("function", WEIGHTS, ids=lambda function: function.__name__)
def test_functions_name_what_is_not_an_array(function, what):
    for i in range(len(WEIGHTS[function])):
        given = list(WEIGHTS[function])
        given[i] = NO_ARRAYS[what]
        with pytest.raises(nc.errors.NumbacnnError):
            function(*given)


NO_NUMBERS = (
    *("complex", "dates", "durations", "texts", "ragged"),
    *("None in a list", "objects", "digits", "huge integers"),
)


@pytest.mark.parametrize("what", NO_NUMBERS)
@pytest.mark.parametrize("name", LOSSES)
def test_losses_take_real_numbers_only(name, what):
    if name == "detection":
        pytest.skip("it has boxes as targets, and no function")
    function, bad = getattr(L, name), NO_ARRAYS[what]
    numbers, labels = np.full(IMAGE.shape, 0.5, np.float32), np.zeros((2, 4, 4), int)
    with pytest.raises(nc.errors.ArgumentError):
        function(bad, labels)
    with pytest.raises(nc.errors.ArgumentError):
        function(numbers, bad)


VALUES = [None, "a", 10**30, HUGE, -HUGE, 2**31, -1, [], {}, object(), np.ones(3), np.nan]
OPTIONS = {
    F.max_pool2d: (IMAGE,), F.avg_pool2d: (IMAGE,), F.global_avg_pool2d: (IMAGE,), F.dropout: (IMAGE,),
    F.resize2d: (IMAGE, 4), F.gelu: (IMAGE,), F.elementwise: (IMAGE, "exp"), F.zero_pad2d: (IMAGE,),
    F.upsample2d: (IMAGE,), F.reshape: (IMAGE,), F.conv2d: WEIGHTS[F.conv2d], **dict.fromkeys(OPTIMIZERS.values(), ()),
}  # fmt: skip


@pytest.mark.parametrize("function", OPTIONS, ids=lambda function: function.__name__)
def test_options_are_taken_or_rejected(function):
    given, failures = OPTIONS[function], []
    names = list(inspect.signature(function).parameters)
    for name, value in product(names[len(given) :], VALUES):
        try:
            function(*given, **{name: value})
        except nc.errors.NumbacnnError:
            pass
        except Exception as error:
            failures.append(f"{name}={shown(value)}: {type(error).__name__} {error}")
    assert not failures, "\n".join(failures)


HOSTILE = [
    *VALUES, True, 10**400, -(10**400), 1e308, -0.5, np.inf, -np.inf, b"a", [1], [None], ["a"], [10**400], {"a": 1}, 1j,
    Fraction(1, 3), Fraction(10**400), Decimal("nan"), np.array(0.5), np.array(None), np.array(["a"]), np.complex64(1),
    np.datetime64("2020"), datetime(2020, 1, 1), timedelta(1), int, range(3), iter([1]), set(),
]  # fmt: skip


def failures(make, use, values=HOSTILE, **required):
    """Return the arguments that a constructor or the use of what it makes rejects by an error that is not ours."""
    found = []
    for name, value in product(inspect.signature(make).parameters, values):
        try:
            use(make(**required | {name: value}))
        except nc.errors.NumbacnnError:
            pass
        except Exception as error:
            found.append(f"{name}={shown(value)}: {type(error).__name__} {error}")
    return "\n".join(found)


@pytest.mark.parametrize("name", LOSSES)
def test_hostile_arguments_of_losses(name):
    labels, numbers = np.zeros((2, 4, 4), int), np.full(IMAGE.shape, 0.5, np.float32)
    boxes = np.array([[[0, 0, 2, 2, 1]]] * 2, np.float32)
    takes_numbers = name in ("mse", "l1", "huber", "binary_cross_entropy")
    outputs = np.zeros((2, 4, 4, 7), np.float32) if name == "detection" else IMAGE
    target = boxes if name == "detection" else numbers if takes_numbers else labels
    required = {"size": (16, 16)} if name == "detection" else {}
    kind = LOSSES[name] if isinstance(LOSSES[name], type) else type(LOSSES[name])
    assert not failures(kind, lambda loss: loss(outputs, target), **required)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_hostile_arguments_of_optimizers(name):
    x, labels = np.ones((2, 3), np.float32), np.array([0, 1])
    model = nc.Sequential([nc.Dense(2)], (3,))

    def use(optimizer):
        model.set_parameters({"dense_1.weight": np.ones((3, 2))})
        model.train_step(x, labels, optimizer)

    assert not failures(OPTIMIZERS[name], use)
    assert not failures(lambda pattern: nc.SGD(groups=[nc.ParamGroup(pattern)]), use)
    groups = [nc.ParamGroup("*.bias", learning_rate=value) for value in HOSTILE]
    assert not failures(lambda group: OPTIMIZERS[name](groups=[group]), use, groups)


@pytest.mark.parametrize("kind", [nc.schedules.Step, nc.schedules.OneCycle, nc.schedules.Warmup, nc.schedules.Plateau])
def test_hostile_arguments_of_schedules(kind):
    def use(schedule):
        for each in (schedule, nc.schedules.after(schedule, [1.0, 0.5] + [2.0] * 30, 0.1)):
            assert all(np.isfinite(each(step, 10)) for step in (0, 5, 9))

    assert not failures(kind, use)


@pytest.mark.parametrize("schedule", nc.schedules.SCHEDULES)
def test_hostile_steps(schedule):
    found = nc.schedules.SCHEDULES[schedule]
    assert not failures(found.__call__ if schedule != "cosine" else found, np.isfinite, step=1, steps=10)


@pytest.mark.parametrize("value", [None, "a", -1, np.nan, np.inf, 10**400, [1], np.ones(2), 1j, {}], ids=repr)
def test_factors_that_a_schedule_must_not_return(value):
    model = nc.Sequential([nc.Dense(2)], (3,))
    with pytest.raises(nc.ArgumentError, match=r"the factor of schedule\(0, 1\)"):
        model.fit((np.ones((4, 3), np.float32), np.array([0, 1, 0, 1])), epochs=1, schedule=lambda step, steps: value)


@pytest.mark.parametrize("name", ["validation", "resume", "drop_last", "metrics", "schedule", "loss", "optimizer"])
def test_hostile_arguments_of_fit(name):
    model, given = nc.Sequential([nc.Dense(2)], (3,)), (np.ones((4, 3), np.float32), np.array([0, 1, 0, 1]))
    found = []
    for value in HOSTILE:
        try:
            model.fit(given, epochs=1, batch_size=4, **{name: value})
        except nc.errors.NumbacnnError:
            pass
        except Exception as error:
            found.append(f"{shown(value)}: {type(error).__name__} {error}")
    assert not found, "\n".join(found)


def test_numbers_that_float32_does_not_have():
    huge = np.full((2, 3), 1e300)
    with pytest.raises(nc.ArgumentError, match=r"delta=1e\+308: pass a number above 0 and at most 3.4e\+38"):
        L.Huber(1e308)
    assert L.mse(huge, np.zeros_like(huge))[0] == np.inf


@pytest.mark.parametrize("value", [True, np.True_, 1])
def test_flags_may_be_of_numpy(value):
    assert nc.SGD(momentum=0.9, nesterov=value).nesterov is True


def test_arrays_of_other_libraries_and_objects_that_are_numbers():
    assert F.relu(np.array([[1, -2]], object)).tolist() == [[1, 0]]
    assert F.relu([[True, False]]).tolist() == [[1, 0]]


class Verbose:
    """A value whose repr has lines, as those of arrays, models and tables have."""

    def __repr__(self):
        return "Verbose(\n    1,\n    2,\n)"


VERBOSE = [Verbose(), np.ones((3, 4)), [np.ones((2, 2))] * 2, {"a": np.ones((2, 2))}, list(range(1000)), "a" * 1000]
LAYERS = [getattr(nc.layers, name) for name in nc.layers.__all__]
CONSTRUCTORS = [*LAYERS, *OPTIMIZERS.values(), *LOSSES.values(), nc.Input, nc.Sequential]


@pytest.mark.parametrize("make", CONSTRUCTORS, ids=lambda make: getattr(make, "__name__", "function"))
def test_errors_are_one_line_whatever_the_value(make):
    parameters = inspect.signature(make).parameters.values()
    named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    required, messages = {p.name: 1 for p in named if p.default is p.empty}, []
    for parameter, value in product(named, VERBOSE):
        try:
            make(**required | {parameter.name: value})
        except nc.NumbacnnError as error:
            messages.append(str(error))
    assert not [message for message in messages if "\n" in message or len(message) > 400]


def test_an_error_that_quotes_lines_is_one_line():
    assert str(nc.ArgumentError("a\n  b:\n\n c")) == "a b: c"


M, D = nc.metrics, nc.data
LABELS, SCORES = np.array([0, 1, 1]), np.eye(3, 2)
METRICS = {
    **dict.fromkeys((M.accuracy, M.precision, M.recall, M.f1, M.auc), (LABELS, SCORES)),
    **dict.fromkeys((M.mae, M.mse, M.rmse, M.r2), (SCORES, SCORES)),
    M.top_k_accuracy: (LABELS, SCORES, 1),
    M.confusion_matrix: (LABELS, LABELS, 2),
    **dict.fromkeys((M.intersection_over_union, M.mean_iou, M.per_class, M.macro_averages), (np.eye(2, dtype=int),)),
}


@pytest.mark.parametrize("what", [*NO_ARRAYS, "empty", "one text"])
@pytest.mark.parametrize("metric", METRICS, ids=lambda function: function.__name__)
def test_metrics_name_what_they_cannot_measure(metric, what):
    good, value = METRICS[metric], {**NO_ARRAYS, "empty": [], "one text": ["a", "b", "c"]}[what]
    metric(*good)
    if what == "a number" and metric in (M.mae, M.mse, M.rmse, M.r2, M.top_k_accuracy):
        pytest.skip("that is one target, or k")
    for changed in product((False, True), repeat=len(good)):
        if any(changed):
            with pytest.raises(nc.errors.ArgumentError):
                metric(*[value if wrong else each for each, wrong in zip(good, changed, strict=True)])


TINY = nc.Sequential([nc.Flatten(), nc.Dense(2)], (4, 4, 3))
MASK, PALETTE = np.zeros((2, 3), np.uint8), np.zeros((2, 3), np.uint8)
PATHS = {
    "load": nc.load,
    "load_weights": lambda path: TINY.load_weights(path),
    "save": lambda path: TINY.save(path),
    "data.load": D.load,
    "data.load_splits": D.load_splits,
    "data.load_folder": D.load_folder,
    "data.read_idx": D.read_idx,
    "data.read_image": lambda path: D.read_image(path, 2, 2, 1),
    "data.read_mask": D.read_mask,
    "data.write_idx": lambda path: D.write_idx(path, MASK),
    "data.write_mask": lambda path: D.write_mask(path, MASK, PALETTE),
    "data.write_image": lambda path: D.write_image(path, MASK),
    "onnx.load": nc.onnx.load,
    "onnx.save": lambda path: nc.onnx.save(TINY, path),
    "plot": lambda path: TINY.plot().save(path),
    "checkpoint": lambda path: TINY.fit((IMAGE, [0, 1]), checkpoint=path),
}
NO_PATHS = {
    "None": None, "a number": 5, "an object": object(), "a list": ["a"], "a long name": "a" * 5000,
    "long folders": "a" * 300 + "/b.png", "NUL": "a\0b.png", "half a surrogate pair": "\ud800.svg",
}  # fmt: skip


@pytest.mark.parametrize("what", NO_PATHS)
@pytest.mark.parametrize("name", PATHS)
def test_functions_name_what_is_not_a_path(name, what):
    if name == "checkpoint" and what == "None":
        pytest.skip("None asks for no checkpoint")
    with pytest.raises(nc.NumbacnnError) as error:
        PATHS[name](NO_PATHS[what])
    assert len(str(error.value)) < 300


WRONG = {
    "kernel of a number": lambda: nc.kernel(3),
    "kernel of a class": lambda: nc.kernel(int),
    "a layer class": lambda: nc.check_gradients(nc.ReLU, (4, 4, 1)),
    "a list for a layer": lambda: nc.check_gradients([], (4, 4, 1)),
    "layers=None": lambda: nc.load("model.safetensors", layers=None),
    "a path for a model": lambda: nc.onnx.save("model.onnx", "model.onnx"),
    "an array of versions": lambda: nc.onnx.save(TINY, "model.onnx", opset=np.ones(2)),
    "an array for a data set": lambda: D.preview(IMAGE, None),
    "lists for a data set": lambda: D.Dataset([[1.0], [1.0, 2.0]], [[1.0], [1.0, 2.0]]),
    "channels in an array": lambda: D.read_image("a.png", 4, 4, np.ones(2)),
    "text for a mask": lambda: D.resize_nearest("a", (2, 2)),
    "an empty mask": lambda: D.resize_nearest(np.zeros((0, 2)), (2, 2)),
    "no size": lambda: D.resize_nearest(MASK, None),
    "a mask of objects": lambda: D.write_mask("a.png", np.full((2, 2), None), PALETTE),
    "a palette of text": lambda: D.write_mask("a.png", MASK, "red"),
    "text for an array": lambda: D.write_idx("a.idx", "a"),
    "text for an image": lambda: D.has_bright_border("a"),
}


@pytest.mark.parametrize("what", WRONG)
def test_other_functions_name_what_is_wrong(what):
    with pytest.raises(nc.NumbacnnError):
        WRONG[what]()


P, FEW_IMAGES = nc.plots, np.ones((4, 4, 4, 3), np.float32)


@pytest.fixture(scope="module")
def trained():
    """A classifier, a segmentation model, data for each, and the history of the first."""
    classifier = nc.Sequential([nc.Conv2D(3, 3, padding="same"), nc.Flatten(), nc.Dense(2)], (4, 4, 3))
    data = nc.data.Dataset.from_arrays(FEW_IMAGES, np.array([0, 1, 0, 1]))
    masks = nc.data.Dataset.from_arrays(FEW_IMAGES, np.zeros((4, 4, 4), int))
    segmenter = nc.Sequential([nc.Conv2D(2, 1)], (4, 4, 3))
    segmenter.fit(masks, epochs=1)
    return classifier, segmenter, data, masks, classifier.fit(data, epochs=1)


def test_hostile_arguments_of_plots(trained, tmp_path):
    pytest.importorskip("matplotlib")
    model, segmenter, data, masks, history = trained
    wrong = nc.data.Dataset.from_arrays(FEW_IMAGES, 1 - model.predict(FEW_IMAGES).argmax(1))
    given = {
        P.class_activation_map: {"model": model, "images": FEW_IMAGES, "classes": data.labels},
        P.confident_mistakes: {"model": model, "dataset": data, "count": 3},
        P.confusion_matrix: {"report": model.report(data)},
        P.evenly_chosen: {"dataset": masks, "count": 2},
        P.feature_maps: {"model": model, "image": FEW_IMAGES[0]},
        P.filters: {"model": model},
        P.grad_cam: {"model": model, "image": FEW_IMAGES[0]},
        P.gradient_norms: {"norms": {"a": 1.0}},
        P.layer_gradient_norms: {"model": model, "images": FEW_IMAGES, "labels": data.labels},
        P.mistakes: {"model": model, "dataset": wrong},
        P.predictions: {"model": segmenter, "images": FEW_IMAGES, "labels": masks.labels},
        P.roofline: {"points": [P.Point("a", 1, 1, 1.0)], "gflops": 1.0, "bandwidth": 1.0},
        P.save: {"figure": P.filters(model), "path": tmp_path / "a.png"},
        P.training_curves: {"history": history},
    }
    assert {function.__name__ for function in given} == set(P.__all__) - {"Point"}
    for function, required in given.items():
        function(**required)
        assert not failures(function, lambda result: None, [*VALUES, model, data], **required), function.__name__


def test_hostile_arguments_of_models(trained, tmp_path):
    model, segmenter, data, _, _ = trained
    images = {"images": FEW_IMAGES}
    model.save(tmp_path / "model.safetensors")
    given = {
        model.activations: images,
        model.class_gradients: {**images, "name": "conv2d_1", "classes": data.labels},
        model.evaluate: {"test": data},
        model.forward: {"x": FEW_IMAGES},
        model.load_weights: {"path": tmp_path / "model.safetensors"},
        model.plot: {},
        model.predict: images,
        model.replace_head: {"classes": 3},
        model.report: {"test": data},
        segmenter.segment: images,
        model.set_parameters: {"arrays": {}},
        model.to: {"device": "cpu"},
        model.unfreeze: {},
        model.use_algorithm: {"algorithm": "auto"},
    }
    values = [value for value in HOSTILE if not (type(value) is int and value == 2**31)]  # classes that take 400 GiB
    found = [failures(method, lambda result: None, values, **required) for method, required in given.items()]
    assert not any(found), "\n".join(found)


LABELED = np.zeros((4, 8, 8, 1), np.float32), np.arange(4) % 3


def small():
    return nc.Sequential([nc.Flatten(), nc.Dense(3)], (8, 8, 1), seed=0)


def fit(**options):
    return small().fit(LABELED, epochs=1, progress=False, **options)


def fit_layer(**members):
    """Train a model with a custom layer that has these members."""
    members = {"op": "bad_layer", "forward": lambda s, k, t, g: None, "backward": lambda s, k, t, g: None} | members
    layer = dataclass(eq=False)(type("Bad", (nc.Layer,), {"__annotations__": {"op": ClassVar[str]}, **members}))
    model = nc.Sequential([layer(), nc.Flatten(), nc.Dense(3)], (8, 8, 1), seed=0)
    return model.fit(LABELED, epochs=1, progress=False)


def scratch(*spec):
    return lambda s, sizes, g, batch: {"a": nc.ScratchSpec(*spec)}


USERS = {  # functions of the user that take or return the wrong things: how they are used, and what the error says
    "a loss of nothing": (lambda: fit(loss=lambda: (1, 0)), "loss: a function of (); pass one of (outputs, labels)"),
    "a loss of outputs": (lambda: fit(loss=lambda x: (1, x)), "pass one of (outputs, labels)"),
    "a loss of three": (lambda: small().evaluate(LABELED, loss=lambda x, y, z: (1, x)), "(outputs, labels)"),
    "a huge loss": (lambda: fit(loss=lambda x, y: (HUGE, x)), "must return (loss, gradient)"),
    "a complex gradient": (lambda: fit(loss=lambda x, y: (1, x * 1j)), "must return (loss, gradient)"),
    "a gradient of dates": (lambda: fit(loss=lambda x, y: (1, np.zeros(x.shape, "M8[s]"))), "(loss, gradient)"),
    "a callback of nothing": (lambda: fit(callbacks=[lambda: None]), "callbacks: a function of (); pass one"),
    "a callback of two": (lambda: fit(callbacks=lambda a, b: None), "pass one of an event"),
    "a callback's array": (lambda: fit(callbacks=lambda e: np.ones(2)), "return True to end the training"),
    "a schedule of one": (lambda: fit(schedule=lambda step: 1), "pass one of (step, steps)"),
    "an activation of two": (lambda: nc.custom_activation("a", lambda x, y: x, lambda dy, x: dy), "the number x"),
    "a gradient of one": (lambda: nc.custom_activation("a", lambda x: x, lambda dy: dy), "the numbers dy and x"),
    "forward": (lambda: fit_layer(forward=lambda s, k, t: None), "define forward(self, kernels, t, g)"),
    "backward": (lambda: fit_layer(backward=lambda s, k, t: None), "define backward(self, kernels, t, g)"),
    "geometry": (lambda: fit_layer(geometry=lambda s: None), "define geometry(self, shapes)"),
    "output_shape": (lambda: fit_layer(output_shape=lambda s: (3,)), "define output_shape(self, shapes)"),
    "no shape": (lambda: fit_layer(output_shape=lambda s, shapes: None), "output_shape returned None"),
    "a shape of text": (lambda: fit_layer(output_shape=lambda s, shapes: "abc"), "output_shape returned 'abc'"),
    "a shape of four": (lambda: fit_layer(output_shape=lambda s, shapes: (1, 2, 3, 4)), "(height, width, channels)"),
    "a fraction": (lambda: fit_layer(output_shape=lambda s, shapes: (1.5,)), "1.5: pass a whole number"),
    "a negative size": (lambda: fit_layer(output_shape=lambda s, shapes: (-1, 8, 1)), "=-1: pass a whole number"),
    "a huge size": (lambda: fit_layer(output_shape=lambda s, shapes: (2**31,)), "is above 2,147,483,647"),
    "no parameters": (lambda: fit_layer(parameters=lambda s, shapes: None), "Bad.parameters returned None"),
    "no specification": (lambda: fit_layer(parameters=lambda s, shapes: {"w": (3,)}), "nc.ParameterSpec(shape, …)"),
    "no name": (lambda: fit_layer(parameters=lambda s, shapes: {1: nc.ParameterSpec((3,), "ones")}), "for 1"),
    "no scratch": (lambda: fit_layer(scratch=lambda s, z, g, b: None), "Bad.scratch returned None"),
    "scratch of a number": (lambda: fit_layer(scratch=scratch(3, "forward")), "pass a tuple of sizes"),
    "scratch of a fraction": (lambda: fit_layer(scratch=scratch((1.5,), "forward")), "pass a whole number"),
    "scratch for never": (lambda: fit_layer(scratch=scratch((1,), "never")), "pass forward, backward, saved"),
    "inputs": (lambda: fit_layer(inputs="x"), "use a whole number, or None for two or more"),
}  # fmt: skip


@pytest.mark.parametrize("what", USERS)
def test_functions_of_users_that_take_or_return_the_wrong_things(what):
    use, message = USERS[what]
    with pytest.raises(nc.ArgumentError) as error:
        use()
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_an_error_inside_a_function_of_the_user_is_left_as_it_is():
    """Its traceback is what the user needs."""
    for use in (lambda: fit(loss=lambda x, y: {}["k"]), lambda: fit(callbacks=lambda e: {}["k"])):
        with pytest.raises(KeyError, match="k"):
            use()


SIZES = {
    "classes": lambda n: nc.models.lenet5().replace_head(n),
    "a confusion matrix": lambda n: nc.metrics.confusion_matrix([0], [0], n),
    "a stride": lambda n: F.conv2d(IMAGE, np.ones((3, 3, 3, 4), np.float32), stride=n),
    "a pool's stride": lambda n: F.max_pool2d(IMAGE, 2, stride=n),
}


@pytest.mark.parametrize("size", [2**62, 2**63 - 1, 2**63, 10**30])
@pytest.mark.parametrize("what", SIZES)
def test_sizes_that_no_computer_has_room_for(what, size):
    with pytest.raises(nc.NumbacnnError) as error:
        SIZES[what](size)
    assert "\n" not in str(error.value)


def test_an_epoch_of_more_than_64_bits():
    train, _ = nc.data.load("digits")
    with pytest.raises(nc.ArgumentError, match="epoch=1e\\+30: pass a whole number of at most 64 bits"):
        next(nc.data.DataLoader(train, 8, seed=0).epoch(10**30))
