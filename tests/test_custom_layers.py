"""Custom layers: activations from scalar functions, whole layers, model files, and the disk cache."""

import copy
import importlib
import math
import pickle
import sys
from collections import namedtuple
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numba
import numpy as np
import op
import pytest
from command_line import numbacnn
from numba import njit, prange
from processes import run_python

import numbacnn as nc
from numbacnn.errors import ArgumentError, ModelFileError
from numbacnn.kernels.custom import code_key
from numbacnn.layers import REGISTRY
from numbacnn.layers.algorithms import ConvEpilogue

EXAMPLE = Path(__file__).parents[1] / "examples" / "custom_layer.py"
MODULE = """
import math

import numpy as np

import numbacnn as nc

ONE = np.float32(1)


def swish(x):
    return x / (ONE + math.exp(-x))


def swish_gradient(dy, x):
    s = ONE / (ONE + math.exp(-x))
    return dy * s * (ONE + x * (ONE - s))


Swish = nc.custom_activation("swish", swish, swish_gradient)
"""


@pytest.fixture
def swish(tmp_path, monkeypatch):
    """The class Swish of an importable user module."""
    (tmp_path / "users_layers.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield importlib.import_module("users_layers").Swish
    sys.modules.pop("users_layers", None)


def square(x):
    return x * x


def square_gradient(dy, x):
    return np.float32(2) * x * dy


def model_of(layer):
    return nc.Sequential([nc.Conv2D(3, 3, padding="same"), layer, nc.Flatten(), nc.Dense(2)], (5, 6, 1), seed=1)


def test_a_custom_activation_matches_the_built_in_one(swish, rng):
    """The input has a halo in this graph."""
    x, dy = rng.standard_normal((3, 5, 6, 1)), rng.standard_normal((3, 2))
    own, built_in = model_of(swish()), model_of(nc.SiLU())
    own.set_parameters({"conv2d_1.bias": np.array([0.1, 0.2, 0.3])})
    built_in.set_parameters(own.parameters)
    np.testing.assert_allclose(own.forward(x, training=True), built_in.forward(x, training=True), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(own.backward(dy), built_in.backward(dy), rtol=1e-4, atol=1e-5)


def test_name_summary_and_initial_weights_of_a_custom_activation():
    layer = nc.custom_activation("my_square", square, square_gradient, rectifies=True)
    assert (layer.__name__, layer.op, layer.__module__) == ("MySquare", "my_square", __name__)
    model = model_of(layer())
    assert [row.name for row in model.summary(show=False).rows][1] == "my_square_1"
    plain = model_of(nc.custom_activation("plain_square", square, square_gradient)())
    assert model.parameters["conv2d_1.weight"].std() > plain.parameters["conv2d_1.weight"].std()


def test_functions_already_compiled_by_numba_are_accepted():
    Square = nc.custom_activation("jitted_square", njit(square), njit(square_gradient))
    assert nc.check_gradients(Square(), (4, 5, 2))["x"] < 1e-5


def test_custom_activations_are_saved_loaded_copied_and_pickled(swish, tmp_path, rng):
    model, x = model_of(swish()), rng.standard_normal((2, 5, 6, 1))
    model.save(tmp_path / "m.safetensors")
    for again in (nc.load(tmp_path / "m.safetensors"), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(again.forward(x), model.forward(x))


def test_loading_imports_nothing_unless_asked(swish, tmp_path):
    """A file must not determine which code runs: users import the module before, or by --import on the command line."""
    path = tmp_path / "m.safetensors"
    model_of(swish()).save(path)
    load = f"import numbacnn as nc; print(nc.load({str(path)!r}).graph.nodes[1].layer.op)"
    script = f"import users_layers; {load}"
    assert run_python("-c", script, PYTHONPATH=str(tmp_path)).strip() == "swish"
    forget("swish", "users_layers")
    with pytest.raises(ModelFileError, match="of users_layers; reading a file imports nothing: import that module"):
        nc.load(path)
    assert "users_layers" not in sys.modules
    outcome = numbacnn("summary", path, "--import", "users_layers")
    assert (outcome.code, outcome.err) == (0, "")
    assert "swish_1" in outcome.out


def test_the_plot_command_imports_custom_layers(swish, tmp_path):
    pytest.importorskip("matplotlib")
    model_of(swish()).save(tmp_path / "m.safetensors")
    forget("swish", "users_layers")
    options = (tmp_path / "m.safetensors", "filters", "--out", tmp_path / "filters.png")
    assert "import that module before" in numbacnn("plot", *options).err
    outcome = numbacnn("plot", *options, "--import", "users_layers")
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "filters.png").exists()


def test_unpickling_imports_what_it_names(swish, tmp_path, rng):
    """A pickle is code anyway, and spawned processes need it."""
    (tmp_path / "m.pickle").write_bytes(pickle.dumps(model_of(swish())))
    script = f"import pickle; print(pickle.load(open({str(tmp_path / 'm.pickle')!r}, 'rb')).graph.nodes[1].layer.op)"
    assert run_python("-c", script, PYTHONPATH=str(tmp_path)).strip() == "swish"


def forget(op, module=None):
    del REGISTRY[op]
    sys.modules.pop(module, None)


def test_loading_accepts_classes(swish, tmp_path, monkeypatch):
    model_of(swish()).save(tmp_path / "m.safetensors")
    forget("swish", "users_layers")
    (tmp_path / "users_layers.py").unlink()
    importlib.invalidate_caches()
    assert type(nc.load(tmp_path / "m.safetensors", layers=[swish]).graph.nodes[1].layer) is swish


@pytest.mark.parametrize("module", ["users_layers", "no_such_module"])
def test_a_missing_class_is_named(swish, tmp_path, module):
    swish.__module__ = module
    model_of(swish()).save(tmp_path / "m.safetensors")
    forget("swish", "users_layers")
    with pytest.raises(ModelFileError) as error:
        nc.load(tmp_path / "m.safetensors")
    assert f"node \"swish_1\" is a custom layer, 'swish' of {module}; " in str(error.value)
    assert "or pass the class: nc.load(file, layers=[TheClass])" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_class_of_a_script_must_be_passed(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(f"{MODULE}\nnc.Sequential([Swish()], (3,)).save({str(tmp_path / 'm.safetensors')!r})\n")
    run_python(script)
    with pytest.raises(ModelFileError, match=r"of __main__; .* pass the class: nc\.load\(file, layers="):
        nc.load(tmp_path / "m.safetensors")


@pytest.mark.parametrize("wrong", [nc.ReLU(), int, "relu", nc.Layer])
def test_other_objects_than_layer_classes_are_rejected(tmp_path, wrong):
    nc.Sequential([nc.ReLU()], (3,)).save(tmp_path / "m.safetensors")
    with pytest.raises(ArgumentError, match="layers: pass classes of layers, not"):
        nc.load(tmp_path / "m.safetensors", layers=[wrong])


@pytest.mark.parametrize(
    ("name", "message"),
    [("relu", '"relu" is numbacnn\'s own ReLU; choose another name'), ("a b", "use letters, digits and _"), (3, "3")],
)
def test_taken_and_invalid_names_are_rejected(name, message):
    with pytest.raises(ArgumentError, match=message):
        nc.custom_activation(name, square, square_gradient)
    assert REGISTRY["relu"] is nc.ReLU


def test_other_objects_than_functions_are_rejected():
    with pytest.raises(ArgumentError, match="gradient=3: pass a function"):
        nc.custom_activation("square", square, 3)


def test_rerunning_a_notebook_cell_redefines_its_layer(rng):
    x = rng.standard_normal((2, 3)).astype(np.float32)
    first = nc.custom_activation("redefined", square, square_gradient)
    second = nc.custom_activation("redefined", lambda x: x + np.float32(1), lambda dy, x: dy)
    assert REGISTRY["redefined"] is second
    np.testing.assert_allclose(nc.Sequential([first()], (3,)).forward(x), x * x, rtol=1e-6)
    np.testing.assert_allclose(nc.Sequential([second()], (3,)).forward(x), x + 1, rtol=1e-6)


def test_a_custom_layer_in_plain_numpy(rng):
    """Bindings hold views of the engine's memory, on which NumPy works too."""

    @dataclass(eq=False)
    class IntegerPower(nc.Layer):
        op: ClassVar[str] = "integer_power"
        reads_x: ClassVar[bool] = True
        exponent: int = 2

        def forward(self, kernels, t, g):
            t.y[...] = t.x**self.exponent

        def backward(self, kernels, t, g):
            t.dx[...] = t.dy * self.exponent * t.x ** (self.exponent - 1)

    assert nc.check_gradients(IntegerPower(3), (4, 5, 2))["x"] < 1e-4
    model, x = model_of(IntegerPower(3)), rng.standard_normal((2, 5, 6, 1))
    again = pickle.loads(pickle.dumps(model))
    assert again.graph.nodes[1].layer.exponent == 3
    np.testing.assert_array_equal(again.forward(x), model.forward(x))


def test_layers_that_only_launch_are_recorded_and_others_are_called_in_every_step(rng):
    calls = []

    class Doubled(nc.Layer):
        op: ClassVar[str] = "doubled"
        only_launches: ClassVar[bool] = True

        def forward(self, kernels, t, g):
            calls.append(self.op)
            kernels.copy(t.y, t.x)
            kernels.add_in_place(t.y, t.x)

    class Called(Doubled):
        op: ClassVar[str] = "called"

    x = rng.standard_normal((2, 3)).astype(np.float32)
    for layer in (Doubled(), Called()):
        model = nc.Sequential([layer], (3,))
        for _ in range(3):
            np.testing.assert_array_equal(model.forward(x), 2 * x)
    assert calls == ["doubled", *["called"] * 3]


def test_a_function_that_numba_cannot_compile_is_reported_in_one_line():
    layer = nc.custom_activation("own", lambda x: x + Path, lambda dy, x: dy)
    with pytest.raises(
        nc.NumbacnnError, match=r"^own_forward cannot be compiled: Untyped global name 'Path'.*$"
    ) as error:
        nc.Sequential([layer()], (1,)).forward(np.zeros((1, 1)))
    assert "\n" not in str(error.value)


def test_the_command_line_names_missing_modules(swish, tmp_path):
    model_of(swish()).save(tmp_path / "m.safetensors")
    forget("swish", "users_layers")
    outcome = numbacnn("summary", tmp_path / "m.safetensors")
    assert (outcome.code, outcome.err.count("\n")) == (1, 1)
    assert "import that module before (--import on the command line)" in outcome.err
    outcome = numbacnn("summary", tmp_path / "m.safetensors", "--import", "no_such_module")
    assert (outcome.code, outcome.err) == (1, "error: --import no_such_module: No module named 'no_such_module'\n")


def test_the_example_runs():
    assert "accuracy 0." in run_python(EXAMPLE, "--fast")


# -- the disk cache ---------------------------------------------------------------------------------------------------

SCRIPT = """
import numpy as np
import numbacnn as nc

FACTOR = np.float32({factor})


def helper(x):
    return {body}


from numba import njit
helper = njit(helper)


def own(x):
    return FACTOR * helper(x)


def own_gradient(dy, x):
    return dy


compiled = []
from numbacnn.kernels.jit import add_compile_listener
add_compile_listener(lambda name, done: compiled.append(name))
y = nc.Sequential([nc.custom_activation("own", own, own_gradient)()], (1,)).forward(np.full((1, 1), 3, np.float32))
print(y.item(), len([name for name in compiled if name.startswith("own")]))
"""


def run_script(tmp_path, **parts):
    (tmp_path / "script.py").write_text(SCRIPT.format(**{"factor": 2, "body": "x"} | parts))
    value, compiled = run_python(tmp_path / "script.py", NUMBACNN_CACHE_DIR=str(tmp_path / "cache")).split()
    return float(value), int(compiled)


def test_the_cache_distinguishes_functions_of_the_same_name(tmp_path):
    """The key depends on what the functions, their globals and their callees compile to, in a script too."""
    assert run_script(tmp_path) == (6, 2)
    assert run_script(tmp_path) == (6, 0)
    assert run_script(tmp_path, factor=5) == (15, 2)
    assert run_script(tmp_path, body="x * x") == (18, 2)
    assert run_script(tmp_path, body="x + x") == (12, 2)
    assert run_script(tmp_path) == (6, 0)


def adding(number):
    return lambda x: x + number


def using(value):
    def function(x):
        return x + value[0]

    return function


def test_keys_include_closures_and_defaults_and_are_none_for_unknown_values():
    assert code_key(adding(1)) == code_key(adding(1)) != code_key(adding(2))
    assert code_key(adding(1)) != code_key(adding(1.0))
    assert code_key(adding(np.arange(3))) != code_key(adding(np.arange(1, 4)))
    assert code_key(adding((1, 2))) != code_key(adding((1, 3)))
    assert code_key(lambda x, y=1: x) != code_key(lambda x, y=2: x)
    assert code_key(adding(object())) is None
    assert code_key(using([1])) is None


def test_keys_distinguish_what_is_made_with_numba():
    """The classes of these are Numba's, but their code, types and options are the user's."""

    def made(factor, name, kind):
        body = lambda x: x * factor  # noqa: E731
        return [
            numba.stencil(lambda a: a[0, 0] * factor),
            numba.cfunc("float32(float32)")(body),
            numba.vectorize(body),
            numba.njit(body),
            kind,
            numba.njit(lambda x: x, locals={"x": kind}),
            numba.njit(kind(kind))(lambda x: x),
            namedtuple("Pair", f"{name} b")(1, 2),
        ]

    ours, theirs = made(1, "a", numba.float32), made(2, "c", numba.float64)
    for one, other in zip(ours, theirs, strict=True):
        assert code_key(adding(one)) is None or code_key(adding(one)) != code_key(adding(other)), one
    assert [code_key(adding(value)) is None for value in ours] == [True, True, True, *[False] * 5]
    known = [np.add, np.float32, math.exp, max, numba.prange, np.linalg.norm, np.linalg]
    assert len({code_key(adding(value)) for value in known} - {None}) == len(known)


def test_kernels_are_compiled_for_the_types_of_their_first_call():
    @nc.kernel
    def fill(y, x, a):
        for n in prange(len(y)):
            for h in range(y.shape[1]):
                y[n, h] = x[n, h] + a

    whole = np.zeros((2, 5, 5, 3), np.float32)
    for y in (whole[:, 1:4, 1:4], np.zeros((2, 3, 3, 3), np.float32)):  # with a halo, and without
        fill(y, np.ones((2, 3, 3, 3), np.float32), 0.5)
        assert (y == 1.5).all()
    assert whole.sum() == 1.5 * 2 * 3 * 3 * 3
    with pytest.raises(TypeError, match="No matching definition"):
        fill(np.zeros(3), np.zeros(3), 0.5)


def test_functions_without_a_key_are_compiled_but_not_cached():
    """The attribute of a module may be anything, so that a key cannot include it."""
    layer = nc.custom_activation("own", lambda x: x + np.float32(op.DRAWN), lambda dy, x: dy)
    assert code_key(layer.function) is None
    y = nc.Sequential([layer()], (1,)).forward(np.zeros((1, 1)))
    assert y.item() == op.DRAWN


def test_a_custom_convolution_is_not_fused_like_the_built_in_one(rng):
    """Its neighbors are layers that a Conv2D would fuse: batch normalization, ReLU, pool, and their gradients."""

    class Doubled(nc.Conv2D):
        op = "doubled"

        def forward(self, kernels, t, g):
            t.algorithms["forward"].forward(t.y, t.x, t.weight, None, t.scratch("forward"), g, ConvEpilogue())
            np.multiply(t.y, 2, out=t.y)

        def backward(self, kernels, t, g):
            super().backward(kernels, t, g)
            np.multiply(t.d_weight, 2, out=t.d_weight)
            np.multiply(t.dx, 2, out=t.dx)

    def model_with(middle):
        layers = [nc.Conv2D(4, 1), nc.ReLU(), middle, nc.BatchNorm(), nc.ReLU(), nc.MaxPool2D(2)]
        return nc.Sequential(layers, (8, 8, 3), seed=1)

    own, plain = model_with(Doubled(8, 3, bias=False, name="m")), model_with(nc.Conv2D(8, 3, bias=False, name="m"))
    weights = {**plain.parameters, **plain.state, "batch_norm_1.running_var": np.full(8, 0.25)}
    own.set_parameters(weights)
    plain.set_parameters(weights | {"m.weight": 2 * weights["m.weight"]})
    x = rng.standard_normal((3, 8, 8, 3)).astype(np.float32)
    dy = rng.standard_normal((3, 3, 3, 8)).astype(np.float32)
    np.testing.assert_allclose(own.forward(x), plain.forward(x), rtol=1e-4, atol=1e-5)
    for model in (own, plain):
        model.forward(x, training=True)
    np.testing.assert_allclose(own.backward(dy), plain.backward(dy), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("before", [lambda: nc.Conv2D(4, 3, padding=1), nc.BatchNorm])
def test_custom_subclasses_are_not_fused_into_other_layers(before, rng):
    """A subclass of ReLU, and one of MaxPool2D, overrides forward without an op of its own."""

    class Shifted(nc.ReLU):
        def forward(self, kernels, t, g):
            super().forward(kernels, t, g)
            t.y += 1

    class Bottom(nc.MaxPool2D):
        def forward(self, kernels, t, g):
            t.y[...] = t.x[:, 1::2, 1::2]

    x = rng.standard_normal((2, 8, 8, 4)).astype(np.float32)
    alone = nc.Sequential([before()], (8, 8, 4))
    first = alone.forward(x)
    for own, expected in ((Shifted(), np.maximum(first, 0) + 1), (Bottom(2), first[:, 1::2, 1::2])):
        model = nc.Sequential([before(), own], (8, 8, 4))
        model.set_parameters(alone.parameters)
        np.testing.assert_allclose(model.forward(x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("table", [np.arange(1 << 19, dtype=np.float32), np.arange(64, dtype=np.float32)[::2]])
def test_a_kernel_may_read_a_large_or_strided_table(table):
    """Numba refers to these by address, so that the kernel is not kept on disk."""

    @nc.kernel
    def look_up(y, x):
        for i in prange(len(x)):
            y[i] = table[int(x[i])]

    y = np.zeros(4, np.float32)
    look_up(y, np.arange(4, dtype=np.float32))
    np.testing.assert_array_equal(y, table[:4])
