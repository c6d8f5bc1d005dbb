"""First guesses of users of Keras and PyTorch either work, or are answered by an error with our name."""

import importlib.util
import inspect
import json
import pickle
import re
from pathlib import Path

import pytest
from first_guesses import ANSWERED, FRESH_ANSWERED, FRESH_WORKS, SECOND_ANSWERED, SECOND_WORKS, START, WORKS

import numbacnn as nc
import numbacnn.serve
from numbacnn._checks.attributes import ATTRIBUTES
from numbacnn._checks.names import AnswersAttributes, _Answered, public_names


@pytest.fixture
def names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = {}
    exec(START, found)
    return found


def skip_without_extra(guess):
    """Skip the test if the guess needs a package of an extra that is not installed."""
    if guess.startswith("nc.onnx."):
        pytest.importorskip("onnx")


@pytest.mark.parametrize(("framework", "guess", "holds"), WORKS + FRESH_WORKS + SECOND_WORKS, ids=lambda part: part)
def test_a_guess_works(framework, guess, holds, names):
    skip_without_extra(guess)
    names["it"] = eval(guess, names)
    assert eval(holds, names), names["it"]


@pytest.mark.parametrize(
    ("framework", "guess", "answer"), ANSWERED + FRESH_ANSWERED + SECOND_ANSWERED, ids=lambda part: part
)
def test_a_guess_is_answered_with_our_name(framework, guess, answer, names):
    skip_without_extra(guess)
    with pytest.raises((nc.NumbacnnError, AttributeError, ImportError)) as error:
        eval(guess, names)
    assert answer in str(error.value)
    assert "\n" not in str(error.value)


def subclasses(kind):
    for found in kind.__subclasses__():
        yield found
        yield from subclasses(found)


def test_no_attribute_hides_an_answer():
    """The table would say what to use instead of an attribute that there is."""
    hidden = [
        (kind.__name__, name)
        for kind in {*subclasses(AnswersAttributes)}
        for base in kind.__mro__
        for name in ATTRIBUTES.get(base.__name__, {})
        if kind.__module__.startswith("numbacnn")
        if not name.startswith("__") and not isinstance(inspect.getattr_static(kind, name, None), _Answered | None)
    ]
    assert not hidden


def public_functions():
    names = ["data", "functional", "losses", "metrics", "models", "onnx", "optimizers", "plots", "schedules", "testing"]
    modules = [nc, nc.augment, nc.detection, nc.serve, *(getattr(nc, name) for name in names)]
    found = {value for module in modules for name in public_names(module) if callable(value := getattr(module, name))}
    found |= {
        getattr(nc.Model, name)
        for name in ["activations", "detect", "evaluate", "fit", "forward", "freeze", "load_weights"]
    }
    found |= {
        getattr(nc.Model, name)
        for name in ["predict", "replace_head", "report", "save", "segment", "set_parameters", "to"]
    }
    functions = {value for value in found if inspect.isfunction(value)} - {nc.kernel, nc.models.make}
    return sorted(functions, key=lambda function: (function.__module__, function.__qualname__))


@pytest.mark.parametrize("function", public_functions(), ids=lambda function: function.__qualname__)
def test_functions_answer_arguments_that_do_not_fit(function):
    required = [
        parameter.name
        for parameter in inspect.signature(function).parameters.values()
        if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    with pytest.raises(nc.NumbacnnError, match="has no argument nonsense="):
        function(*[None] * len(required), nonsense=1)
    if required:
        with pytest.raises(nc.ArgumentError, match="its arguments are"):
            function()


def test_scores_are_unpacked_as_values_and_iterated_as_names(names):
    loss, accuracy = scores = names["model"].evaluate(names["images"], names["labels"])
    assert (loss, accuracy) == (scores["loss"], scores["accuracy"])
    assert list(scores) == ["loss", "accuracy"] == [*scores]
    assert [name for name in scores] == sorted(scores, reverse=True) == list(scores.keys())  # noqa: C416
    assert dict(scores) == scores == scores | {}
    assert json.loads(json.dumps(scores)) == scores
    assert pickle.loads(pickle.dumps(scores)) == scores
    with pytest.raises(KeyError, match="no score 'acc'; that is 'accuracy' here"):
        scores["acc"]
    with pytest.raises(AttributeError, match=r"Scores has no accuracy: scores\[\"accuracy\"\]"):
        scores.accuracy  # noqa: B018


def test_a_loss_is_a_number_and_a_pair(names):
    pair = nc.losses.cross_entropy(names["scores"], names["y"])
    loss, dy = pair
    assert isinstance(loss, float)
    assert (pair.loss, pair.gradient is dy, loss.item()) == (loss, True, float(loss))
    assert repr(loss) == repr(float(loss))
    assert pickle.loads(pickle.dumps(loss)) == loss


def test_imports_of_other_modules_are_left_alone():
    assert importlib.util.find_spec("numbacnn_other") is None
    assert importlib.util.find_spec("numbacnn.other") is None
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'numbacnn\.other'"):
        import numbacnn.other  # noqa: F401


def test_most_guesses_work():
    assert len(WORKS) + len(ANSWERED) >= 200
    assert len(WORKS) >= 0.6 * (len(WORKS) + len(ANSWERED))


PAGE = (Path(__file__).parents[1] / "docs/coming-from.md").read_text("utf-8")
ROWS = re.findall(r"^\| (.*) \| `([^|`]+)` \|$", PAGE, re.MULTILINE)


def test_every_row_of_the_page_has_one_program():
    assert len(ROWS) == sum(line.startswith("| `") for line in PAGE.splitlines()) > 60


@pytest.mark.parametrize(("theirs", "ours"), ROWS, ids=lambda part: part)
def test_a_row_of_the_page_runs(theirs, ours, names):
    names["dataset"] = names["train"]
    exec(ours, names)


# -- activations of layers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["relu", nc.ReLU, nc.ReLU()], ids=repr)
def test_an_activation_of_a_layer_is_a_layer_after_it(activation):
    short = nc.Sequential([nc.Conv2D(4, 3, activation=activation), nc.Flatten(), nc.Dense(3)], (8, 8, 1))
    long = nc.Sequential([nc.Conv2D(4, 3), nc.ReLU(), nc.Flatten(), nc.Dense(3)], (8, 8, 1))
    assert short.graph.names == long.graph.names
    for name, array in long.parameters.items():  # drawn as before a ReLU
        assert (short.parameters[name] == array).all()


def test_a_model_with_activations_of_layers_is_saved_and_gets_a_new_head(tmp_path):
    model = nc.Sequential([nc.Flatten(), nc.Dense(4, activation="tanh"), nc.Dense(3, activation="softmax")], (8, 8, 1))
    model.save(tmp_path / "model.safetensors")
    assert nc.load(tmp_path / "model.safetensors").graph.names == model.graph.names
    assert model.replace_head(5).graph.names == model.graph.names


@pytest.mark.parametrize("activation", ["rellu", 3, nc.functional.relu])
def test_an_unknown_activation_is_named(activation):
    with pytest.raises(nc.ArgumentError, match=r"did you mean 'relu'|pass a name such as"):
        nc.Dense(3, activation=activation)
