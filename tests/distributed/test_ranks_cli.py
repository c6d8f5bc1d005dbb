"""``numbacnn train`` and ``eval`` under mpiexec: the folder of a run, signals, and ranks that are killed or stopped."""

import os
import random
import re
import signal
import subprocess
import time
from hashlib import sha256
from pathlib import Path

import pytest
from ranks import IS_MPICH, finish, start

from numbacnn.errors import ModelFileError
from numbacnn.saving.format import read_checkpoint

OPTIONS = ["--batch-size", "64", "--shards", "16", "--threads", "1", "--ema", "0.9", "--augment", "rotate=10"]
LIMIT = 10.0  # seconds from a failure of one rank to the end of all


def train(ranks, folder, *options, launcher=()):
    return start(ranks, "-m", "numbacnn", "train", "--out", folder, *OPTIONS, *options, launcher=launcher)


def weights(folder):
    return sha256((folder / "model.safetensors").read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def one_rank(tmp_path_factory):
    """The folder of a run on one rank."""
    folder = tmp_path_factory.mktemp("one") / "run"
    assert finish(train(1, folder, "--epochs", "2"))[0] == 0
    return folder


def test_ranks_write_the_folder_of_one_rank_once(one_rank, tmp_path):
    code, out, err = finish(train(3, tmp_path / "run", "--epochs", "2"))
    assert code == 0
    assert out.count("test accuracy") == 1
    assert err.count("epoch 2/2") == 1
    assert weights(tmp_path / "run") == weights(one_rank)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == sorted(p.name for p in one_rank.iterdir())


def test_ranks_print_the_evaluation_of_one_rank(one_rank):
    def evaluated(ranks):
        code, out, _ = finish(start(ranks, "-m", "numbacnn", "eval", one_rank))
        assert code == 0
        return re.match(r"accuracy .*, loss [\d.]+", out)[0]

    assert evaluated(2) == evaluated(1)


def pids(process):
    """The processes of the ranks below mpiexec, in the order of their start."""
    listing = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listing.splitlines()[1:]]
    below, found = {process.pid}, []
    for pid, parent, command in sorted(rows, key=lambda row: int(row[0])):
        if int(parent) in below:
            below.add(int(pid))
            if "numbacnn train" in command and Path(command.split()[0]).name.startswith("python"):
                found.append(int(pid))
    return found


def wait_for_checkpoint(process, folder, seconds=60):
    until = time.monotonic() + seconds
    while not (folder / "checkpoint.safetensors").exists():
        assert process.poll() is None, "no checkpoint"
        assert time.monotonic() < until, "no checkpoint yet"
        time.sleep(0.05)


def wait_for_step(process, folder, began, seconds=60):
    """Wait until a run that began at a time writes its checkpoint, or ends."""
    file, until = folder / "checkpoint.safetensors", time.monotonic() + seconds
    while process.poll() is None and not (file.exists() and file.stat().st_mtime > began):
        assert time.monotonic() < until, "no step yet"
        time.sleep(0.02)


def checkpoint_of(folder):
    state, arrays = read_checkpoint(folder / "checkpoint.safetensors")
    return state["position"]["epoch"], state["position"]["step"], arrays


def test_one_rank_that_gets_a_signal_stops_all_and_two_resume_to_the_same_bits(one_rank, tmp_path):
    folder = tmp_path / "run"
    process = train(3, folder, "--epochs", "2", "--checkpoint-every", "1")
    wait_for_checkpoint(process, folder)
    os.kill(pids(process)[1], signal.SIGTERM)
    code, _, err = finish(process)
    assert code == 143
    assert err.count("interrupted after") == 1
    assert finish(start(2, "-m", "numbacnn", "train", "--out", folder, "--resume", "--threads", "1"))[0] == 0
    assert weights(folder) == weights(one_rank)


@pytest.mark.skipif(not IS_MPICH, reason="mpiexec of another MPI ends the job itself")
@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGSTOP])
def test_a_rank_that_stops_ends_all_with_one_line(tmp_path, sign):
    folder = tmp_path / "run"
    process = train(
        3, folder, "--epochs", "500", "--checkpoint-every", "1", "--quiet", launcher=["-disable-auto-cleanup"]
    )
    wait_for_checkpoint(process, folder)
    os.kill(pids(process)[1], sign)
    began = time.monotonic()
    code, _, err = finish(process, timeout=60)
    assert time.monotonic() - began <= LIMIT
    assert code in (
        (1,) if sign == signal.SIGSTOP else (1, signal.SIGKILL)
    )  # mpiexec may return that of the killed one
    lines = [line for line in err.splitlines() if not line.startswith("note:")]
    if sign == signal.SIGSTOP or lines:  # mpiexec may see that a rank was killed, and end the others, before they do
        (line,) = lines
        assert line.startswith("error: rank 1 on ")
        assert "has not answered for" in line
    checkpoint_of(folder)  # raises an error if it is damaged


@pytest.mark.long
def test_three_ranks_that_are_killed_resume_on_two_and_then_on_one_like_a_run_of_four(tmp_path):
    """Five epochs, so that no training ends before it is killed."""
    rng, folder, given = random.Random(0), tmp_path / "run", ("--epochs", "5", "--checkpoint-every", "1")
    for ranks, resume in ((3, []), (2, ["--resume"])):
        began, process = time.time(), train(ranks, folder, *given, *resume)
        wait_for_step(process, folder, began)
        time.sleep(rng.uniform(0.0, 0.2))
        os.kill(rng.choice(pids(process)), signal.SIGKILL)
        assert finish(process)[0] != 0
        assert checkpoint_of(folder)[:2] < (5, 0)
    assert finish(train(1, folder, *given, "--resume"))[0] == 0
    assert finish(train(4, tmp_path / "four", "--epochs", "5"))[0] == 0
    assert weights(folder) == weights(tmp_path / "four")


def is_in_first_epoch(folder):
    """Whether a training has written a checkpoint of its first epoch; at its end it removes the checkpoint."""
    try:
        return checkpoint_of(folder)[0] == 0
    except ModelFileError:
        return False


@pytest.mark.long
@pytest.mark.huge
def test_random_kills_resume_to_the_same_bits(one_rank, tmp_path):
    """NUMBACNN_KILLS kills of a random rank at a random instant, each resumed on another number of ranks.

    Most instants are after the first step. Half of those stop the rank instead, if they are in the first epoch: before
    it only mpiexec knows the ranks, and MPI itself waits for one that stops while it ends.
    """
    kills = int(os.environ.get("NUMBACNN_KILLS", "10"))
    rng, seconds = random.Random(kills), {signal.SIGKILL: [], signal.SIGSTOP: []}
    folder, number = tmp_path / "0", 0
    while sum(map(len, seconds.values())) < kills:
        resumed, began = (folder / "config.toml").exists(), time.time()
        process = train(rng.choice([2, 3, 4]), folder, "--epochs", "2", "--checkpoint-every", "1", "--quiet",
                        *(["--resume"] if resumed else []))  # fmt: skip
        trains = rng.random() < 0.8
        if trains:
            wait_for_step(process, folder, began)
        time.sleep(rng.uniform(0.0, 1.0 if trains else 6.0))
        victims = pids(process)
        if process.poll() is None and victims:
            stops = trains and rng.random() < 0.5 and is_in_first_epoch(folder)
            sign = signal.SIGSTOP if stops else signal.SIGKILL
            os.kill(rng.choice(victims), sign)
            began = time.monotonic()
            code, _, _ = finish(process, timeout=60)
            if code != 0:  # the training had not just ended
                seconds[sign].append(time.monotonic() - began)
        else:
            assert finish(process)[0] == 0
            assert weights(folder) == weights(one_rank)
            number += 1
            folder = tmp_path / str(number)
    for sign, each in seconds.items():
        print(f"{sign.name}: {len(each)}, at most {max(each, default=0):.1f} s to the end")
    print(f"{number} trainings completed")
    assert max(max(each, default=0) for each in seconds.values()) <= LIMIT
    resume = ["--resume"] if (folder / "config.toml").exists() else []
    assert finish(train(1, folder, "--epochs", "2", *resume))[0] == 0
    assert weights(folder) == weights(one_rank)
