"""The engine's lock: no interrupt leaks it, no file is written during a step, every thread computes alike."""

import copy
import ctypes
import dis
import os
import platform
import signal
import sys
import threading
import time
import types
from collections.abc import Mapping

import numpy as np
import pytest
from processes import run_python

import numbacnn as nc
from numbacnn.engine import locks
from numbacnn.engine.locks import PROCESS_LOCK, engine_lock, flushes_subnormals
from numbacnn.engine.parameters import Parameters
from numbacnn.saving.pretrained import state_dict

CHECKS = ("CALL", "PRECALL", "RESUME", "JUMP_BACKWARD", "YIELD", "SEND", "GET_ITER", "FOR_ITER")
"""Instructions after which, or in whose code, Python raises KeyboardInterrupt, or runs other Python code."""


def free(lock=PROCESS_LOCK):
    """Whether another thread gets the lock."""
    got = []

    def acquire():
        got.append(lock.acquire(timeout=5))
        if got[0]:
            lock.release()

    thread = threading.Thread(target=acquire)
    thread.start()
    thread.join()
    return got[0]


def test_no_interrupt_can_come_after_the_lock_is_taken():
    names = [instruction.opname for instruction in dis.get_instructions(type(engine_lock).__enter__)]
    after = names[len(names) - names[::-1].index("UNPACK_SEQUENCE") :]
    assert after
    assert not [name for name in after if name.startswith(CHECKS)]


def test_no_interrupt_can_come_before_the_lock_is_released():
    assert isinstance(vars(type(engine_lock))["__exit__"], types.BuiltinMethodType)


@pytest.mark.skipif(os.name == "nt", reason="sends signals")
def test_interrupts_do_not_leak_the_lock():
    stop, interrupts, armed = threading.Event(), 0, False
    with engine_lock:  # imports what it needs
        pass

    def send():
        while not stop.wait(0.0005):
            os.kill(os.getpid(), signal.SIGINT)

    def receive(*_):
        nonlocal interrupts, armed
        if armed:  # not where an earlier interrupt is being handled
            armed, interrupts = False, interrupts + 1
            raise KeyboardInterrupt

    sender = threading.Thread(target=send)
    before = signal.signal(signal.SIGINT, receive)
    end = time.monotonic() + 60
    try:
        sender.start()
        while interrupts < 150 and time.monotonic() < end:
            try:
                armed = True
                for _ in range(1000):
                    with engine_lock:
                        pass
                armed = False
            except KeyboardInterrupt:
                continue
    finally:
        stop.set()
        sender.join()
        signal.signal(signal.SIGINT, before)
    assert interrupts == 150
    assert free()


def test_a_file_is_not_written_during_a_step(tmp_path):
    model = nc.Sequential([nc.Dense(2)], (3,))
    saving = threading.Thread(target=lambda: model.save(tmp_path / "m.safetensors"))
    with engine_lock:
        saving.start()
        saving.join(0.3)
        assert saving.is_alive()
        assert not list(tmp_path.iterdir())
    saving.join(30)
    assert nc.load(tmp_path / "m.safetensors").output_shape == (2,)


def saved(model, file):
    model.save(file)
    return nc.load(file).parameters


def exported(model, file):
    nc.onnx.save(model, file)
    return nc.onnx.load(file).parameters


COPIES = {
    "onnx": lambda model, folder: exported(model, folder / "m.onnx"),
    "state_dict": lambda model, folder: state_dict(model.graph, model.store),
    "replace_head": lambda model, folder: model.replace_head(3).parameters,
    "deepcopy": lambda model, folder: copy.deepcopy(model).parameters,
    "save": lambda model, folder: saved(model, folder / "m.safetensors"),
}


@pytest.mark.parametrize("name", COPIES)
def test_all_weights_are_read_between_the_same_two_steps(name, tmp_path, monkeypatch):
    """Whatever copies all weights keeps others from changing them in between: here as soon as the first is read."""
    if name == "onnx":
        pytest.importorskip("onnx")
    model = nc.Sequential([nc.Dense(2), nc.Dense(2), nc.Dense(2)], (2,))
    before = {name: np.array(array) for name, array in model.parameters.items()}
    writing = threading.Thread(target=lambda: [zero(array) for array in views])
    views = [slot.of(model.store.values) for slot in model.store.slots.values()]

    def zero(array):
        with engine_lock:
            array[...] = 0

    class Watched(Mapping):
        def __init__(self, arrays):
            self.arrays = arrays

        def __getitem__(self, name):
            if writing.ident is None:
                writing.start()
                writing.join(0.2)
            return self.arrays[name]

        def __iter__(self):
            return iter(self.arrays)

        def __len__(self):
            return len(self.arrays)

    arrays = Parameters.arrays

    def read(store):
        return Watched(arrays(store)) if store is model.store else arrays(store)

    monkeypatch.setattr(Parameters, "arrays", read)
    copied = list(COPIES[name](model, tmp_path).values())
    writing.join()
    assert not any(array.any() for array in views)
    kept = [before[f"dense_{i}.weight"] for i in (1, 2)]
    assert all(any(sorted(array.ravel()) == sorted(each.ravel()) for each in copied) for array in kept)


def test_a_training_continues_while_copied_weights_are_converted_to_onnx(tmp_path, monkeypatch):
    onnx = pytest.importorskip("onnx")
    found, check = [], onnx.checker.check_model
    monkeypatch.setattr(onnx.checker, "check_model", lambda proto: (found.append(free()), check(proto)))
    nc.onnx.save(nc.Sequential([nc.Dense(2)], (3,)), tmp_path / "m.onnx")
    assert found == [True]


def test_a_state_dict_does_not_change_with_the_model():
    model = nc.Sequential([nc.Dense(2)], (3,))
    copied = state_dict(model.graph, model.store)
    before = {name: np.array(array) for name, array in copied.items()}
    model.set_parameters({name: np.zeros_like(array) for name, array in model.parameters.items()})
    assert all(np.array_equal(copied[name], before[name]) for name in before)
    assert any(array.any() for array in before.values())


def test_files_saved_during_a_training_are_whole(tmp_path):
    model = nc.models.lenet5()
    data, _ = nc.data.load("digits")
    training = threading.Thread(target=lambda: model.fit(data.subset(range(512)), epochs=3, batch_size=16))
    training.start()
    count = 0
    while training.is_alive() or not count:
        model.save(tmp_path / "m.safetensors")
        nc.load(tmp_path / "m.safetensors")
        count += 1
    training.join()


@pytest.mark.skipif(platform.machine() != "x86_64" or sys.platform != "linux", reason="sets a register as there")
def test_every_thread_computes_with_subnormal_numbers():
    libm = ctypes.CDLL(None)
    environment = (ctypes.c_uint32 * 16)()
    x = np.full((1, 4), 1e-39, np.float32)
    model = nc.Sequential([nc.Dense(1)], (4,))
    model.set_parameters({"dense_1.weight": np.ones((4, 1)), "dense_1.bias": [0.0]})
    expected = model.forward(x)
    assert expected[0, 0] > 0
    libm.fegetenv(environment)
    environment[7] |= 0x8040  # MXCSR: flush results to zero, take operands for zero
    libm.fesetenv(environment)
    assert flushes_subnormals()
    np.testing.assert_array_equal(model.forward(x), expected)
    assert not flushes_subnormals()


def test_the_check_for_subnormal_numbers_does_not_depend_on_the_processor():
    assert locks._SUBNORMAL == 2.0**-1074 > 0


FORK = """
import os, threading, numpy as np, numbacnn as nc

class Forks(nc.Layer):
    op = "forks"
    def forward(self, kernels, t, g):
        t.y[...] = t.x
        if os.environ.pop("FORK", None):
            child = os.fork()
            if child == 0:
                os.environ["CHILD"] = "1"
            else:
                os.environ["STATUS"] = str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    def backward(self, kernels, t, g):
        pass

model = nc.Sequential([nc.Conv2D(4, 3), Forks(), nc.Conv2D(4, 3), nc.Flatten(), nc.Dense(2)], (16, 16, 1))
x = np.ones((2, 16, 16, 1), np.float32)
expected = model.forward(x)
os.environ["FORK"] = "1"
try:
    found = model.forward(x)
except nc.NumbacnnError as error:
    assert "spawn" in str(error) and "CHILD" in os.environ
    os._exit(5)
if "CHILD" in os.environ:
    got = []
    thread = threading.Thread(target=lambda: got.append(model.forward(x)))  # the lock is free in the child
    thread.start()
    thread.join(60)
    os._exit(0 if got and (found == expected).all() and (got[0] == expected).all() else 9)
assert (found == expected).all()
print(os.environ["STATUS"])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.parametrize(("layer", "status"), [("default", "0"), ("omp", "5"), ("workqueue", "0")])
def test_a_fork_inside_a_custom_layer_does_not_hang(layer, status):
    output = run_python("-W", "ignore", "-c", FORK, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS="2")
    assert output == f"{status}\n"
