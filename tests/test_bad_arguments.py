"""Arguments that no kernel could take have errors of ours, not NumPy's or Python's: functions, losses, optimizers."""

import inspect
from itertools import product

import numpy as np
import pytest

import numbacnn as nc
from numbacnn.losses import LOSSES
from numbacnn.optimizers import OPTIMIZERS

F, L = nc.functional, nc.losses
IMAGE = np.ones((2, 4, 4, 3), np.float32)
NO_ARRAYS = {
    "None": None, "text": "a", "a number": 1, "complex": IMAGE * 1j, "dates": np.zeros(IMAGE.shape, "datetime64[s]"),
    "durations": np.zeros(IMAGE.shape, "timedelta64[s]"), "ragged": [[1.0], [1.0, 2.0]], "an object": object(),
    "a mapping": {}, "texts": np.full(IMAGE.shape, "a"), "None in a list": [[None]],
    "objects": np.full(IMAGE.shape, np.datetime64("2020"), object), "digits": np.full(IMAGE.shape, "1", object),
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


NO_NUMBERS = ("complex", "dates", "durations", "texts", "ragged", "None in a list", "objects", "digits")


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


VALUES = [None, "a", 10**30, 2**31, -1, [], {}, object(), np.ones(3), np.nan]
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
            failures.append(f"{name}={value!r}: {type(error).__name__} {error}")
    assert not failures, "\n".join(failures)


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
