"""Kills, full disks, damaged files and signals never cost a completed save."""

import errno
import gc
import json
import os
import signal
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from faults import Faults
from processes import run_python
from trainings import data, model, options, saved

import numbacnn as nc
from numbacnn.data import files
from numbacnn.saving import checkpoints as recovery
from numbacnn.saving.checkpoints import Checkpoints, Interval, describe, parse_interval

posix = pytest.mark.skipif(sys.platform == "win32", reason="forks and signals")
CALLS_OF_A_SAVE = ["open", "write", "fsync", "close", "replace", "replace", "open", "fsync", "close", "unlink"]
ERRORS = [errno.ENOSPC, errno.EIO]


def fit(path, resume=False, epochs=1, callbacks=(), net=None, **changes):
    """Train one epoch of ten steps, with a save after each step and at the end."""
    given = {"checkpoint_every": 1} | options() | {"ema": None, "accumulate": 1} | changes
    net = net or model()
    history = net.fit(given.pop("train"), checkpoint=path, resume=resume, epochs=epochs, callbacks=callbacks, **given)
    return net, history


def steps(path):
    """Steps in each of the two files that exists, the newest first; each must be intact."""
    both = path, path.with_name(f"{path.name}-previous")
    positions = [saved(file)[0]["position"] for file in both if file.exists()]
    return [10 * position["epoch"] + position["step"] for position in positions]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The checkpoint of an uninterrupted training."""
    path = tmp_path_factory.mktemp("whole") / "c"
    fit(path)
    return saved(path)


@pytest.fixture
def inject(monkeypatch):
    def faults(*arguments, **named):
        found = Faults(*arguments, **named)
        monkeypatch.setattr(files, "os", found)
        return found

    return faults


# -- two generations --------------------------------------------------------------------------------------------------


def test_the_two_newest_checkpoints_are_kept(tmp_path):
    seen = []
    fit(tmp_path / "c", callbacks=[lambda event: seen.append(steps(tmp_path / "c")) and None])
    assert seen == [[1], *([n, n - 1] for n in range(2, 11)), [10, 10]]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c", "c-previous"]


def stop_after(count):
    return lambda event: isinstance(event, nc.StepEnd) and event.step == count


DAMAGE = {
    "a flipped bit": lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
    "cut": lambda content: content[: len(content) // 2],
    "zeros": lambda content: bytes(len(content)),
    "empty": lambda content: b"",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_newest_checkpoint_falls_back_to_the_previous_one_with_a_warning(tmp_path, damage, whole):
    path = tmp_path / "c"
    fit(path, callbacks=[stop_after(5)])
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(UserWarning, match=r"c: .*damaged.*; continuing from the previous one, c-previous") as caught:
        fit(path, resume=True, callbacks=[stop_after(5)])
    assert len(caught) == 1
    assert "\n" not in str(caught[0].message)
    assert steps(path) == [5, 4], "the damaged file must not replace the intact one"
    fit(path, resume=True)
    assert saved(path) == whole


def test_a_save_killed_between_its_renames_falls_back_to_the_previous_one(tmp_path, whole):
    path = tmp_path / "c"
    fit(path, callbacks=[stop_after(5)])
    path.unlink()
    fit(path, resume=True)
    assert saved(path) == whole


def test_two_damaged_checkpoints_are_an_error(tmp_path):
    fit(tmp_path / "c", callbacks=[stop_after(5)])
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(nc.ModelFileError, match="damaged"):
        fit(tmp_path / "c", resume=True)


def test_a_new_training_removes_the_checkpoints_of_another(tmp_path):
    fit(tmp_path / "c")
    fit(tmp_path / "c", seed=9, callbacks=[stop_after(1)])
    assert steps(tmp_path / "c") == [1]


@pytest.mark.parametrize("name", ["c", "[ab]", "*"])
def test_leftovers_of_killed_processes_are_removed(tmp_path, name):
    leftover, others = (
        tmp_path / f".{name}.0123abcd.part",
        [tmp_path / f".{other}.0123abcd.part" for other in ("cc", "a")],
    )
    for path in (leftover, *others):
        path.write_bytes(b"half")
    fit(tmp_path / name)
    assert not leftover.exists()
    assert all(other.exists() for other in others)


def test_a_file_that_cannot_be_opened_fails_once(tmp_path, monkeypatch):
    """Its finalizer raises nothing, which Python 3.13 would print."""
    raised = []
    monkeypatch.setattr(sys, "unraisablehook", raised.append)
    with pytest.raises(FileNotFoundError):
        files.write_file(tmp_path / "missing" / "file", b"")
    gc.collect()
    assert not raised


# -- when to save -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "interval"),
    [(500, Interval(500)), ("500", Interval(500)), ("90s", Interval(seconds=90)), ("5m", Interval(seconds=300)),
     ("2h", Interval(seconds=7200))],
)  # fmt: skip
def test_intervals_are_steps_or_times(given, interval):
    assert parse_interval(given) == interval


@pytest.mark.parametrize("given", [0, -1, 1.5, True, "", "0s", "5 m", "m", "5d", "1.5s", "9" * 40])
def test_invalid_intervals_are_errors(given):
    with pytest.raises(nc.ArgumentError, match=r"checkpoint_every=.*: use a whole number of steps, or a time"):
        parse_interval(given)


def test_checkpoint_every_needs_a_file():
    with pytest.raises(nc.ArgumentError, match="checkpoint_every needs checkpoint=FILE"):
        model().fit(data(), checkpoint_every=3)


def test_time_intervals_start_at_the_end_of_the_last_save(tmp_path, monkeypatch):
    now, saves = [0.0], []
    monkeypatch.setattr("numbacnn.training.trainer.time.monotonic", lambda: now[0])
    save = Checkpoints.save

    def slow(self, *arguments):
        saves.append(now[0])
        now[0] += 100
        save(self, *arguments)

    def tick(event):
        now[0] += 10

    monkeypatch.setattr(Checkpoints, "save", slow)
    fit(tmp_path / "c", checkpoint_every="30s", callbacks=[tick])
    assert saves == [30, 160, 290, 300 + 100]  # every third step, and at the end of the epoch


# -- system calls that fail -------------------------------------------------------------------------------------------


def test_the_system_calls_of_a_save_are_known(tmp_path, inject):
    fit(tmp_path / "c", callbacks=[stop_after(1)])
    faults = inject()
    fit(tmp_path / "c", resume=True, callbacks=[stop_after(2)])
    assert faults.calls == CALLS_OF_A_SAVE


@pytest.mark.parametrize("error", ERRORS, ids=errno.errorcode.get)
@pytest.mark.parametrize("call", range(1, 10))
@pytest.mark.parametrize("lasting", [False, True])
def test_a_failing_save_is_a_warning_and_one_checkpoint_stays_intact(tmp_path, inject, whole, call, error, lasting):
    """Each call of the fourth save fails, or with ``lasting`` every call like it from then on."""
    path, seen = tmp_path / "c", []
    faults = inject(3 * len(CALLS_OF_A_SAVE) - 1 + call, error, lasting)  # the first save keeps nothing: a call less
    with pytest.warns(UserWarning, match=rf"c: cannot be written \({os.strerror(error)}\); training continues"):
        fit(path, callbacks=[lambda event: seen.append(max(steps(path))) and None])
    assert seen[:3] == [1, 2, 3]
    assert all(step >= (3 if lasting else min(number, 10) - 1) for number, step in enumerate(seen[3:], 4))
    assert faults.failed >= 1
    if not lasting:
        assert saved(path) == whole
    inject()
    fit(path, resume=True)
    assert saved(path) == whole


@pytest.mark.parametrize("error", ERRORS, ids=errno.errorcode.get)
@pytest.mark.parametrize("call", range(1, 10))
def test_on_save_error_stop_raises_and_one_checkpoint_stays_intact(tmp_path, inject, call, error):
    path = tmp_path / "c"
    inject(3 * len(CALLS_OF_A_SAVE) - 1 + call, error)
    with pytest.raises(nc.NumbacnnError, match=r"c: cannot be written .*; what was saved before is intact"):
        fit(path, on_save_error="stop")
    assert max(steps(path)) >= 3
    assert len(list(tmp_path.iterdir())) <= 2


def test_short_writes_are_continued(tmp_path, inject, whole):
    faults = inject(shortest=50)
    fit(tmp_path / "c")
    assert faults.calls.count("write") > 1000
    assert saved(tmp_path / "c") == whole


@posix
@pytest.mark.parametrize("call", range(1, 11))
def test_a_kill_at_any_system_call_leaves_the_previous_save(tmp_path, call):
    """A forked child, which runs no kernel, is killed at one call of its third save."""
    net, path = model(), tmp_path / "c"
    store, checkpoints = net.store, Checkpoints(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork in a process with threads
        child = os.fork()
    if not child:
        try:
            files.os = Faults(2 * len(CALLS_OF_A_SAVE) - 1 + call, "kill")
            for number in range(1, 6):
                store.values[:] = number
                checkpoints.save(store.arenas(), number)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    _, number, arrays = Checkpoints(path).read()
    assert number == (3 if call > 6 else 2)
    assert all((array == number).all() for name, array in arrays.items() if name.startswith("parameter/"))
    other = Checkpoints(path)
    other.read()
    other.save(store.arenas(), 9)
    assert Checkpoints(path).read()[1] == 9
    assert len(list(tmp_path.iterdir())) == 2, "the leftovers of the killed process must be removed"


@posix
def test_kills_and_signals_at_random_times(tmp_path):
    """The short form of tests/long/recovery.py."""
    script = Path(__file__).with_name("long") / "recovery.py"
    counts = json.loads(run_python(script, "--kills", 10, "--signals", 2, "--resumes", 2).splitlines()[-1])
    assert (counts["kills"], counts["SIGINT"], counts["SIGTERM"]) == (10, 2, 2)


# -- descriptions of objects ------------------------------------------------------------------------------------------


def test_descriptions_are_the_same_in_every_process():
    assert describe(nc.schedules.Warmup(nc.schedules.cosine, 0.1)) == "Warmup(schedule=cosine, length=0.1, start=0.01)"
    assert describe(nc.ParamGroup("*.bias", weight_decay=np.float64(0.5))) == (
        "ParamGroup(pattern='*.bias', options={weight_decay: 0.5})"
    )
    assert describe((1, None, "a", nc.losses.Huber)) == "[1, None, 'a', Huber]"


def test_descriptions_contain_no_addresses():
    class Own:
        def __init__(self):
            self.function = recovery.describe

    assert describe(Own()).endswith("Own(function=describe)")
