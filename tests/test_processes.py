"""Python threads, forked processes, several processes with one cache: correct results or one clear error."""

import os
import sys
from functools import cache
from pathlib import Path

import pytest
from processes import run_python

from numbacnn.kernels.threads import available

TESTS = Path(__file__).parent
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")

PRELUDE = """
import os, sys, threading, warnings
import numpy as np
import numbacnn as nc

warnings.simplefilter("ignore", DeprecationWarning)  # of Python: fork in a process with threads


def make(seed):
    layers = [nc.Conv2D(8, 3), nc.ReLU(), nc.MaxPool2D(2), nc.Flatten(), nc.Dense(3)]
    return nc.Sequential(layers, (9, 9, 2), seed=seed)


x = np.random.default_rng(0).standard_normal((7, 9, 9, 2)).astype(np.float32)
"""

THREADS = """
models = [make(seed) for seed in range(8)]
wrong = []


def check(model, n, forward, predicted):
    for _ in range(40):
        ok = np.array_equal(model.forward(x[:n]), forward) and np.array_equal(model.predict(x[:n]), predicted)
        if not ok:
            wrong.append(n)


def together(chosen):
    sizes = [1 + i % len(x) for i in range(8)]
    expected = [(m, n, m.forward(x[:n]), m.predict(x[:n])) for m, n in zip(chosen, sizes)]
    threads = [threading.Thread(target=check, args=arguments) for arguments in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


together(models[:1] * 8)
together(models)
from numbacnn.kernels.threads import layer
print(layer(), len(wrong))
"""

FORK = """
model = make(0)
expected = model.forward(x) if {before} else None


def child():
    if {thread}:
        threading.Thread(target=lambda: None).start()
    try:
        found = model.forward(x)
    except nc.NumbacnnError as error:
        return 3 if "spawn" in str(error) and "\\n" not in str(error) else 4
    return 0 if expected is None or np.array_equal(found, expected) else 5


def forked(work):
    pid = os.fork()
    if pid == 0:
        os._exit(work())
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


children = [forked(child), forked(lambda: forked(child))]
fine = expected is None or np.array_equal(model.forward(x), expected)
print(*children, fine)
"""

BUSY_FORK = """
model = make(0)
expected = model.forward(x)
done = threading.Event()


def work():
    while not done.is_set():
        model.forward(x)


thread = threading.Thread(target=work)
thread.start()
codes = set()
for _ in range(20):
    pid = os.fork()
    if pid == 0:
        try:
            code = 0 if np.array_equal(model.forward(x), expected) else 5
        except nc.NumbacnnError:
            code = 3
        os._exit(code)
    codes.add(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
done.set()
thread.join()
print(*codes)
"""


def layer_variables(layer):
    """Variables that select a threading layer; skips the test if it is not installed."""
    if layer == "numbacnn":
        if not available():
            pytest.skip("Numba's threads run the kernels here")
        return {"NUMBA_NUM_THREADS": "2"}
    variables = {"NUMBA_THREADING_LAYER": layer, "NUMBA_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"}
    if layer == "tbb":
        # Its package on PyPI installs the library where the dynamic linker does not look.
        paths = [f"{sys.prefix}/lib", *os.environ.get("LD_LIBRARY_PATH", "").split(":")]
        variables["LD_LIBRARY_PATH"] = ":".join(filter(None, paths))
        if not has_tbb(variables["LD_LIBRARY_PATH"]):
            pytest.skip("TBB is not installed (pip install tbb), or not found")
    return variables


@cache
def has_tbb(paths):
    """Whether Numba can load TBB."""
    script = "try: import numba.np.ufunc.tbbpool\nexcept ImportError: print('no')"
    return run_python("-c", script, LD_LIBRARY_PATH=paths) == ""


every_layer = pytest.mark.parametrize("layer", ["numbacnn", "omp", "tbb", "workqueue"])


@every_layer
def test_eight_python_threads_at_once_on_one_model_and_on_eight(layer):
    assert run_python("-c", PRELUDE + THREADS, **layer_variables(layer)).split() == [layer, "0"]


CONFIGURED = """
import numba
import numbacnn as nc
from numbacnn.kernels.threads import layer

for chosen in {chosen}:
    numba.config.THREADING_LAYER = chosen
    nc.functional.relu([[1.0, -1.0]])
    print(layer())
"""


@pytest.mark.skipif(not available(), reason="Numba's threads run the kernels here")
@pytest.mark.parametrize(
    ("chosen", "layers"),
    [(["workqueue"], ["workqueue"]), (["default", "workqueue"], ["numbacnn"] * 2)],
    ids=["before the first kernel", "later"],
)
def test_the_layer_of_numbas_settings_is_used(chosen, layers):
    assert run_python("-c", CONFIGURED.format(chosen=chosen)).split() == layers


@needs_fork
@every_layer
@pytest.mark.parametrize("thread", [False, True], ids=["", "with a thread in the child"])
def test_a_child_forked_after_the_engine_ran_is_correct_or_reports_spawn(layer, thread):
    """The child and a grandchild are; the parent continues to work."""
    script = PRELUDE + FORK.format(before=True, thread=thread)
    code = "3" if layer == "omp" else "0"
    assert run_python("-c", script, **layer_variables(layer)).split() == [code, code, "True"]


@needs_fork
@every_layer
def test_children_forked_before_the_engine_runs_are_correct(layer):
    script = PRELUDE + FORK.format(before=False, thread=False)
    assert run_python("-c", script, **layer_variables(layer)).split() == ["0", "0", "True"]


@needs_fork
@every_layer
def test_a_fork_while_another_thread_computes_does_not_hang(layer):
    printed = run_python("-c", PRELUDE + BUSY_FORK, **layer_variables(layer)).splitlines()
    assert printed[-1] == ("3" if layer == "omp" else "0")  # before it, TBB may print that its threads were busy


@pytest.mark.long
def test_two_trainings_started_together_on_a_cold_cache():
    """The long version has 20 rounds: python tests/long/cold_starts.py --count 20."""
    assert run_python(TESTS / "long" / "cold_starts.py", "--count", 1).endswith("1 rounds, no failure\n")


UNCACHED = """
import warnings
import numpy as np
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from numbacnn.kernels.cpu import launchers as cpu
    for kernel in (cpu.copy, cpu.relu_forward):
        y = np.zeros((1, 2, 3, 4), np.float32)
        kernel(y, np.ones((1, 2, 3, 4), np.float32))
        assert y.sum() == 24
print(*(warning.message for warning in caught), sep="\\n")
"""
NOBODY = """
import os, pwd
del os.environ["HOME"]
def unknown(_):
    raise KeyError
pwd.getpwuid = unknown
"""


@pytest.mark.skipif(sys.platform == "win32", reason="another cache folder")
@pytest.mark.parametrize("nobody", [False, True], ids=["HOME is not a folder", "no HOME and no user"])
def test_without_a_cache_folder_it_works_with_one_warning(tmp_path, monkeypatch, nobody):
    for name in ("NUMBACNN_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    printed = run_python("-c", NOBODY * nobody + UNCACHED, HOME="/dev/null").splitlines()
    assert len(printed) == 1
    assert printed[0].startswith("compiled kernels are not cached, each start compiles them again: ")
    assert not list(tmp_path.iterdir())


AFTER_PYTORCH = """
torch = __import__("torch")
torch.set_num_threads(2)
a = torch.randn(600, 600)
(a @ a).sum().item()
model = make(0)
pid = os.fork()
if pid == 0:
    try:
        model.forward(x)
    except nc.NumbacnnError as error:
        print(error, flush=True)
        os._exit(3)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@needs_fork
@pytest.mark.parametrize(("variables", "output"), [({}, "0"), ({"NUMBA_THREADING_LAYER": "omp"}, "OpenMP had run")])
def test_a_child_forked_after_pytorch_ran_is_correct_or_reports_spawn(variables, output):
    """It would wait forever for OpenMP's threads, which are PyTorch's and do not exist in the child."""
    pytest.importorskip("torch")
    if sys.platform != "linux":
        pytest.skip("PyTorch has another OpenMP here")
    assert output in run_python("-c", PRELUDE + AFTER_PYTORCH, **variables)


# -- the environment --------------------------------------------------------------------------------------------------

TRY = """
try:
    print(*make(0).forward(x)[0, :2])
except nc.NumbacnnError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("NUMBA_THREADING_LAYER", "nonsense", "NUMBA_THREADING_LAYER=nonsense: The threading layer requested"),
        ("NUMBA_NUM_THREADS", "0", "NUMBA_NUM_THREADS=0: Number of threads"),
        ("NUMBACNN_VECTOR_WIDTH", "5", "NUMBACNN_VECTOR_WIDTH=5: choose 4, 8 or 16 lanes"),
    ],
)
def test_a_variable_that_does_not_work_is_named(variable, value, message):
    output = run_python("-c", PRELUDE + TRY, **{variable: value})
    assert output.startswith(message)
    assert output.count("\n") == 1


def test_numbas_interpreter_mode_does_not_change_the_engine():
    """NUMBA_DISABLE_JIT is for debugging one's own functions, and for measuring test coverage."""
    assert run_python("-c", PRELUDE + TRY, NUMBA_DISABLE_JIT="1") == run_python("-c", PRELUDE + TRY)
