"""First guesses of users of Keras and PyTorch either work, or are answered by an error with our name."""

import re
from pathlib import Path

import pytest
from first_guesses import ANSWERED, START, WORKS

import numbacnn as nc


@pytest.fixture
def names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = {}
    exec(START, found)
    return found


@pytest.mark.parametrize(("framework", "guess", "holds"), WORKS, ids=lambda part: part)
def test_a_guess_works(framework, guess, holds, names):
    names["it"] = eval(guess, names)
    assert eval(holds, names), names["it"]


@pytest.mark.parametrize(("framework", "guess", "answer"), ANSWERED, ids=lambda part: part)
def test_a_guess_is_answered_with_our_name(framework, guess, answer, names):
    with pytest.raises((nc.NumbacnnError, AttributeError)) as error:
        eval(guess, names)
    assert answer in str(error.value)
    assert "\n" not in str(error.value)


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
    with pytest.raises(nc.ArgumentError, match=r"did you mean 'relu'|give a name such as"):
        nc.Dense(3, activation=activation)
