"""The examples run and print what they should."""

import re
from pathlib import Path

import pytest
from processes import run_python

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_a_custom_training_loop():
    printed = run_python(EXAMPLES / "training_loop.py", "--fast")
    assert re.fullmatch(r"epoch 1: loss \d\.\d{4}\ntest accuracy \d\d\.\d\d%\n", printed), printed


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("classify", r"accuracy \d+\.\d\d%, lowest F1 .* for \d\nimage 0 is a \d, predicted \d with probability .*\n"),
        ("segment", r"mean IoU \d+\.\d\d%, pixel accuracy .*\nscene 0 holds background.*; found: .+\n"),
        ("detect", r"mAP@0.5 \d+\.\d\d%, mAP@0.5:0.95 .*%\n(scene 0: a \d at .*\n)*"),
    ],
)
def test_each_task_has_a_short_example(name, expected):
    printed = run_python(EXAMPLES / f"{name}.py", "--fast")
    assert re.fullmatch(expected, printed), printed


@pytest.mark.parametrize("name", ["cs231n_fast_layers", "minitorch_fast_conv"])
def test_a_drop_in_gives_the_numbers_of_plain_loops(name):
    (difference,) = re.findall(r"difference (\S+)\n", run_python(EXAMPLES / f"{name}.py"))
    assert float(difference) < 1e-5


def transfer(*arguments):
    """Mean accuracies in percent: after transfer, and from scratch."""
    printed = run_python(EXAMPLES / "transfer.py", *arguments)
    found = re.findall(r"(-?[\d.]+)% ± ([\d.]+)%", printed)
    assert len(found) == 3, printed
    return [float(mean) for mean, _ in found[:2]]


def test_transfer_runs_on_the_bundled_digits():
    assert min(transfer("--fast")) > 50


@pytest.mark.long
def test_transfer_gains_on_mnist(data_folder):
    transferred, scratch = transfer(data_folder / "mnist")
    assert transferred > scratch
