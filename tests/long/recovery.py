"""Kill and signal trainings at random times, and resume at random steps; prints how many of each, as JSON.

    python tests/long/recovery.py --kills 300 --signals 100 --resumes 100

Each training continues from the state that the previous one left, and the final result is compared, bit for bit, with
an uninterrupted training. ``tests/test_recovery.py`` runs the short version. POSIX only: trainings are forked from this
process, which has imported everything and never runs a kernel itself.
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
from numbacnn.training.host_loop import HostLoop

STEPS = 10  # per epoch


def forked(work):
    """Fork a child that runs ``work`` and exits with its result; return the process number."""
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
    """Wait for a child; return its exit code, or the negative number of the signal."""
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
    """Return the steps in the newer of the two checkpoint files."""
    steps = [0]
    for file in (path, path.with_name("c-previous.safetensors")):
        if file.exists():
            position = trainings.saved(file)[0]["position"]  # raises if it is damaged
            steps.append(position["epoch"] * STEPS + position["step"])
    return max(steps)


def kills(count, folder, draw):
    """Kill a training that saves after every step, at random times. No completed save may be lost."""
    path = folder / "c.safetensors"
    for _ in range(count):
        reader, writer = os.pipe()

        def report(event, writer=writer):
            if isinstance(event, nc.StepEnd):
                os.write(writer, struct.pack("i", (event.epoch - 1) * STEPS + event.step))

        child = forked(lambda report=report: fit(path, 1 << 20, report))
        os.close(writer)
        done = 0
        for _ in range(draw.randrange(1, 12)):  # steps with a complete save
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
    assert not list(folder.glob(".*.part")), "a later save removes the temporary files of a killed one"
    return epochs * STEPS


def table(run):
    with (run / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if k not in trainings.TIMES} for row in csv.DictReader(file)]


def train(run, *more, report=None):
    """Run the command line; ``report`` is called at the start of every step."""
    if report is not None:
        step = HostLoop._run

        def reported(self, batch, position):
            report()
            return step(self, batch, position)

        HostLoop._run = reported  # only in this child
    return main(["train", "--out", str(run), "--quiet", "--threads", "1", *map(str, more)])


def signals(count, folder, draw):
    """Send SIGINT and SIGTERM alternately to a run of the command line, at random times; every fifth is sent twice.

    One signal loses no step: all that were begun are in the checkpoint. A second one loses those since the last save.
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
        begun = draw.choice([1, draw.randrange(1, 60)])  # the first step includes loading
        for _ in range(begun):
            assert os.read(reader, 1), f"ended with {ended(child)} before the signal"
        time.sleep(draw.uniform(0, 0.3 if begun == 1 else 0.02))
        os.kill(child, sign)
        if twice:
            time.sleep(draw.uniform(0, 0.01))
            os.kill(child, sign)
        code = ended(child)
        while more := os.read(reader, 1 << 10):
            begun += len(more)
        os.close(reader)
        _, state, _ = Checkpoints(run / "checkpoint.safetensors").read()  # the previous one, between two renames
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
    """Resume a training of 400 steps at random steps."""
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
