"""Kills and signals trainings at random instants, and resumes at random steps; prints how many of each, as JSON.

    python tests/long/recovery.py --kills 300 --signals 100 --resumes 100

Each training after the first goes on from what the one before left, and what comes out in the end is compared, bit for
bit, with a training that nothing stopped. ``tests/test_recovery.py`` runs the short form. POSIX only: trainings are
forked from this process, which has everything imported and never runs a kernel itself.
"""

import argparse
import csv
import json
import os
import random
import shutil
import signal
import struct
import sys
import tempfile
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import trainings
from numbacnn.cli import main

import numbacnn as nc
from numbacnn.saving.checkpoints import Checkpoints
from numbacnn.training.host_loop import HostSteps

STEPS = 10  # of an epoch


def forked(work):
    """The process number of a child that does ``work`` and ends with what that returns."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    try:
        os._exit(work())
    except BaseException as error:
        os.write(2, f"{error!r}\n".encode())
        os._exit(1)


def ended(child):
    """How a child ended: its exit code, or the negative number of the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def completed(work):
    assert (code := ended(forked(work))) == 0, code


def fit(path, epochs, report=lambda _: None, every=1):
    nc.set_num_threads(1)
    given = trainings.options()
    trainings.model().fit(
        given.pop("train"), checkpoint=path, checkpoint_every=every, resume=True, epochs=epochs, callbacks=[report],
        **given,
    )  # fmt: skip
    return 0


def newest(path):
    """Steps in the newest checkpoint that can be read, by a rule of its own: any file of the two, the later one."""
    steps = [0]
    for file in (path, path.with_name("c-previous.safetensors")):
        if file.exists():
            position = trainings.saved(file)[0]["position"]  # raises where it is damaged
            steps.append(position["epoch"] * STEPS + position["step"])
    return max(steps)


def kills(count, folder, draw):
    """SIGKILL at random instants of a training that saves after every step. None may cost a completed save."""
    path = folder / "c.safetensors"
    for _ in range(count):
        reader, writer = os.pipe()

        def report(event, writer=writer):
            if isinstance(event, nc.StepEnd):
                os.write(writer, struct.pack("i", (event.epoch - 1) * STEPS + event.step))

        child = forked(lambda report=report: fit(path, 1 << 20, report))
        os.close(writer)
        done = 0
        for _ in range(draw.randrange(1, 12)):  # steps whose save is complete
            (done,) = struct.unpack("i", os.read(reader, 4))
        time.sleep(draw.uniform(0, 0.01))
        os.kill(child, signal.SIGKILL)
        assert ended(child) == -signal.SIGKILL
        while rest := os.read(reader, 4):
            (done,) = struct.unpack("i", rest)
        os.close(reader)
        assert newest(path) >= done, (newest(path), done)
    epochs = newest(path) // STEPS + 1
    completed(lambda: fit(path, epochs))
    completed(lambda: fit(folder / "whole", epochs))
    assert trainings.saved(path) == trainings.saved(folder / "whole")
    assert not list(folder.glob(".*.part")), "a later save removes what a killed one left"
    return epochs * STEPS


def table(run):
    with (run / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if k not in trainings.TIMES} for row in csv.DictReader(file)]


def train(run, *more, report=None):
    """A run of the command line; ``report`` is called at the start of every step."""
    if report is not None:
        step = HostSteps._step

        def reported(self, batch, position):
            report()
            return step(self, batch, position)

        HostSteps._step = reported  # in this child alone
    return main(["train", "--out", str(run), "--quiet", "--threads", "1", *map(str, more)])


def signals(count, folder, draw):
    """SIGINT and SIGTERM in turn, at random instants of a run of the command line; every fifth comes twice.

    One signal costs no step: all that were begun are in the checkpoint. A second costs those since the last save.
    """
    run, every, before = folder / "run", 7, 0
    start = ("--schedule", "constant", "--batch-size", 32, "--checkpoint-every", every, "--epochs", 1 << 20)
    for number in range(2 * count):
        sign, twice = (signal.SIGINT, signal.SIGTERM)[number % 2], number % 5 == 4
        reader, writer = os.pipe()
        options = ("--resume",) if number else start
        child = forked(
            lambda writer=writer, options=options: train(run, *options, report=lambda: os.write(writer, b"."))
        )
        os.close(writer)
        begun = draw.choice([1, draw.randrange(1, 60)])  # the first one loads much
        for _ in range(begun):
            assert os.read(reader, 1), f"ended with {ended(child)} by itself"
        time.sleep(draw.uniform(0, 0.3 if begun == 1 else 0.02))
        os.kill(child, sign)
        if twice:
            time.sleep(draw.uniform(0, 0.01))
            os.kill(child, sign)
        code = ended(child)
        while more := os.read(reader, 1 << 10):
            begun += len(more)
        os.close(reader)
        _, state, _ = Checkpoints(run / "checkpoint.safetensors").read()  # between two renames, the one before
        after = state["optimizer_steps"]
        if code == 128 + sign:
            assert after == before + begun, (after, before, begun)
        else:
            assert twice, f"{sign!r} ended it with {code}"
            assert code == -sign, f"two of {sign!r} ended it with {code}"
            assert before + begun - 1 - every <= after <= before + begun, (after, before, begun)
        before = after
    epochs = trainings.saved(run / "checkpoint.safetensors")[0]["position"]["epoch"] + 1
    completed(lambda: train(run, "--resume", "--epochs", epochs))
    completed(lambda: train(folder / "whole-run", *start[:-1], epochs))
    for name in ("model.safetensors", "best.safetensors"):
        a, b = nc.load(run / name), nc.load(folder / "whole-run" / name)
        assert {k: v.tobytes() for k, v in a.parameters.items()} == {k: v.tobytes() for k, v in b.parameters.items()}
    assert table(run) == table(folder / "whole-run")
    assert trainings.saved(run / "checkpoint.safetensors") == trainings.saved(
        folder / "whole-run/checkpoint.safetensors"
    )
    return epochs


def resumes(count, folder, draw):
    """Cuts a training of 400 steps at random ones."""
    path = folder / "long"
    copies = {}

    def keep(event):
        if isinstance(event, nc.StepEnd):
            shutil.copy(path, folder / f"step{(event.epoch - 1) * STEPS + event.step}")

    completed(lambda: fit(path, 40, keep))
    expected = trainings.saved(path)
    for step in draw.sample(range(1, 401), count):
        copies[step] = folder / f"step{step}"
        completed(lambda step=step: fit(copies[step], 40, every=1000))
        assert trainings.saved(copies[step]) == expected, step
    return count


def run():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--signals", type=int, default=100, help="of each of SIGINT and SIGTERM")
    parser.add_argument("--resumes", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    draw, counts = random.Random(given.seed), {}
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if given.kills:
            counts["steps with kills"] = kills(given.kills, folder, draw)
        if given.signals:
            counts["epochs with signals"] = signals(given.signals, folder, draw)
        if given.resumes:
            resumes(given.resumes, folder, draw)
    counts |= {"kills": given.kills, "SIGINT": given.signals, "SIGTERM": given.signals, "resumes": given.resumes}
    print(json.dumps(counts))


if __name__ == "__main__":
    run()
