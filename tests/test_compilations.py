"""Progress says which compilation runs, of how many: they are counted ahead, and the count is right."""

import io
import re
import sys
import threading

import numpy as np
import pytest
from numbacnn.cli import progress
from processes import run_python

import numbacnn as nc
from numbacnn.training import compilations
from numbacnn.training.compilations import CompileCount
from numbacnn.training.progress import TrainingProgress

COMPARE = """
import copy

import numpy as np
import numbacnn as nc
from numbacnn.data import Dataset
from numbacnn.kernels.jit import CFunction, CpuKernel
from numbacnn.training import compilations
from numbacnn.training.trainer import Trainer

used, compile = [], CpuKernel._compile
def note(kernel, arguments):
    if kernel._compiled is None and not isinstance(kernel, CFunction):  # of the threads
        used.append(kernel.__name__)
    return compile(kernel, arguments)
CpuKernel._compile = note
compilations._is_on_disk = lambda kernel, arguments: False  # those that are loaded count as compiled

def compare(model, data, **options):
    data, again = Dataset.of(data), copy.deepcopy(model)
    options = {"optimizer": "sgd", "epochs": 2, "batch_size": 8, "seed": 0} | options
    trainer = Trainer(model, data, **options)
    counted = len(compilations.missing_kernels(trainer))
    used.clear()
    for _ in trainer.run():
        pass
    assert counted == len(used), (counted, used)
    other = Trainer(again, data, **options)  # without counting, the same bits
    for _ in other.run():
        pass
    for record, expected in zip(trainer.history.epochs, other.history.epochs, strict=True):
        record, expected = (each.numbers() | {"seconds": 0, "images_per_second": 0} for each in (record, expected))
        np.testing.assert_equal(record, expected)  # NaN where there is no accuracy, which is unequal to itself
    for part in ("parameters", "state"):
        for name, array in getattr(model, part).items():
            assert array.tobytes() == getattr(other.model, part)[name].tobytes(), name
    print(counted)

rng = np.random.default_rng(0)
images, labels = rng.integers(0, 255, (20, 12, 12, 1)).astype(np.uint8), np.arange(20) % 3
def net(outputs=3):
    layers = [nc.Conv2D(4, 3, activation="relu"), nc.MaxPool2D(2), nc.BatchNorm(), nc.Flatten(), nc.Dense(outputs)]
    return nc.Sequential(layers, (12, 12, 1))

compare(net(), (images, labels))
compare(net(), (images, labels))
held_out = Dataset.of((images[:9], labels[:9]))
compare(net(), (images, labels), optimizer="adamw", validation=held_out, ema=0.9, metrics=["auc", "f1"])
compare(net(), (images, labels), accumulate=2, on_nan="skip", augment="rotate=10, elastic=2, mixup, noise=0.1")
compare(net(1), (images, labels > 1), loss="mse", validation=Dataset.of((images, labels > 1)))
compare(net(2), (images, rng.normal(0, 1, (20, 2))), metrics=["rmse"])
unet = nc.models.unet_small((16, 16, 1), classes=3)
scenes = rng.integers(0, 255, (10, 16, 16, 1)).astype(np.uint8), rng.integers(0, 3, (10, 16, 16))
compare(unet, scenes, validation=Dataset.of(scenes), loss=nc.losses.Dice(), augment="hflip")
compare(nc.models.make("resnet18_small", input_shape=(16, 16, 1), classes=3), (scenes[0], labels[:10]), loss="focal")
"""


def test_the_count_is_the_number_of_kernels_that_a_training_uses(tmp_path):
    (tmp_path / "compare.py").write_text(COMPARE)
    first, again, *others = map(int, run_python(tmp_path / "compare.py").split())
    assert first > 10
    assert again == 0
    assert sum(others) > 20


@nc.kernel
def _double(x, y):
    y[:] = 2 * x


def test_kernels_that_another_thread_calls_meanwhile_run():
    x, y = np.ones((1, 1, 1, 3), np.float32), np.zeros((1, 1, 1, 3), np.float32)
    with compilations._noting() as noted:
        other = threading.Thread(target=_double, args=(x, y))
        other.start()
        other.join()
        assert not noted
        np.testing.assert_array_equal(y, 2 * x)
        _double(x, y[..., :0])
        assert list(noted) == [_double]


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Kernel:
    is_ready = False


def test_the_line_has_the_number_and_the_count(monkeypatch):
    missing = [Kernel(), Kernel(), Kernel()]
    monkeypatch.setattr(compilations, "missing_kernels", lambda trainer: [(kernel, ()) for kernel in missing])
    count = CompileCount()
    assert count.next() == "kernel 1"
    count.begin(object())
    assert count.next() == "2 of 4"
    missing[0].is_ready = missing[1].is_ready = True  # the second was compiled by another process
    assert [count.next(), count.next()] == ["4 of 4", "5 of 5"]  # never 5 of 4
    monkeypatch.setattr(sys, "stderr", Terminal())
    with TrainingProgress(live=True) as show:
        show.compiling("_forward", done=False)
        assert sys.stderr.getvalue().endswith("compiling kernel 1 (first run only): forward …")


def test_the_command_line_has_them_too(monkeypatch):
    monkeypatch.setattr(compilations, "missing_kernels", lambda trainer: [(Kernel(), ()), (Kernel(), ())])
    monkeypatch.setattr(sys, "stderr", Terminal())
    line = progress.CompileLine(quiet=False)
    line.begin(object())
    for done in (False, True):
        line("_copy", done)
    assert sys.stderr.getvalue() == "\r\x1b[Kcompiling 1 of 2 (first run only): copy …\r\x1b[K"


def test_other_devices_compile_none(monkeypatch):
    model = nc.Sequential([nc.Flatten(), nc.Dense(2)], (2, 2, 1), device="reference")
    monkeypatch.setattr(sys, "stderr", Terminal())
    model.fit(np.zeros((4, 2, 2, 1), np.float32), [0, 1, 0, 1], epochs=1)
    assert "compiling" not in sys.stderr.getvalue()


@pytest.mark.long
def test_a_first_training_shows_each_number_once(tmp_path):
    program = """
import io, sys
import numpy as np
import numbacnn as nc

class Terminal(io.StringIO):
    def isatty(self):
        return True

stream, sys.stderr = sys.stderr, Terminal()
model = nc.Sequential([nc.Flatten(), nc.Dense(2)], (2, 2, 1))
model.fit(np.arange(16, dtype=np.float32).reshape(4, 2, 2, 1), [0, 1, 0, 1], epochs=1, validation=0.5)
print(sys.stderr.getvalue())
"""
    (tmp_path / "first.py").write_text(program)
    alone, together = (
        [
            tuple(map(int, pair))
            for pair in re.findall(
                r"compiling (\d+) of (\d+) ",
                run_python(
                    tmp_path / "first.py", NUMBACNN_CACHE_DIR=str(tmp_path / threads), NUMBA_NUM_THREADS=threads
                ),
            )
        ]
        for threads in ("1", "2")
    )
    assert alone == [(number, len(alone)) for number in range(1, len(alone) + 1)]
    assert len(alone) > 5
    assert sorted(set(together)) == together  # others are compiled by another process
    assert together[0] == (1, len(alone))
    assert {total for _, total in together} == {len(alone)}
