"""A training that mpiexec starts on several ranks: prints, on rank 0, a hash of all that it has learned.

python job.py CASE [STEPS]: with mpiexec, on its ranks; without, on one.
"""

import atexit
import hashlib
import os
import signal
import sys

import numpy as np
import trainings

import numbacnn as nc
from numbacnn import models
from numbacnn.distributed import connect
from numbacnn.training.trainer import Trainer


def images(count, size, channels, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *size, channels)).astype(np.uint8)


def classes(count):
    return np.arange(count) % 10


def lenet5():
    return models.make("lenet5", seed=1), (images(96, (28, 28), 1), classes(96)), {"batch_size": 32}


def small():
    """Batch normalization, dropout, mixup, accumulation and a moving average; a batch smaller than the shards."""
    given = trainings.options()
    return trainings.model(), given.pop("train"), given | {"batch_size": 24, "shards": 8}


def small_synchronized():
    """The same with batch normalization over the whole batch."""
    net, train, given = small()
    return net, train, given | {"sync_batch_norm": True}


def uneven():
    """The same in six shards, which is not a power of two."""
    net, train, given = small_synchronized()
    return net, train, given | {"shards": 6}


def resnet18():
    net = models.make("resnet18_small", input_shape=(32, 32, 3), classes=10, seed=1)
    return net, (images(128, (32, 32), 3), classes(128)), {"batch_size": 64, "shards": 8}


def resnet18_synchronized():
    net, train, given = resnet18()
    return net, train, given | {"sync_batch_norm": True}


def resnet18_cifar():
    """The whole network, with the stem for small images."""
    net = models.make("resnet18", input_shape=(32, 32, 3), classes=10, stem="cifar", seed=1)
    return net, (images(32, (32, 32), 3), classes(32)), {"batch_size": 16, "shards": 8}


def resnet18_cifar_synchronized():
    net, train, given = resnet18_cifar()
    return net, train, given | {"sync_batch_norm": True}


def unet():
    net = models.make("unet_small", input_shape=(32, 32, 1), classes=3, seed=1)
    masks = np.random.default_rng(1).integers(0, 3, (48, 32, 32)).astype(np.uint8)
    return net, (images(48, (32, 32), 1), masks), {"batch_size": 16, "shards": 8, "optimizer": "adamw"}


def detector():
    net = models.make("grid_detector", input_shape=(64, 64, 1), classes=10, seed=1)
    rng = np.random.default_rng(1)
    corners = rng.integers(0, 40, (48, 2, 2))
    boxes = np.concatenate([corners, corners + 12, rng.integers(0, 10, (48, 2, 1))], axis=2).astype(np.float32)
    return net, (images(48, (64, 64), 1), boxes), {"batch_size": 16, "shards": 8, "optimizer": "adamw"}


NETWORKS = (lenet5, small, resnet18, resnet18_cifar, unet, detector)
SYNCHRONIZED = (small_synchronized, uneven, resnet18_synchronized, resnet18_cifar_synchronized)
CASES = {case.__name__: case for case in (*NETWORKS, *SYNCHRONIZED)}


class StopAfter:
    def __init__(self, steps):
        self.steps = steps

    def __call__(self, event):
        self.steps -= isinstance(event, nc.StepEnd)
        return self.steps <= 0


def run(name, steps=6, threads=1):
    """Return a hash of weights, state, moments, losses and accuracies."""
    nc.set_num_threads(threads)
    group = connect()
    net, train, options = CASES[name]()
    given = {"shards": 16, "validation": train, "optimizer": nc.SGD(0.02, momentum=0.9), "epochs": 1000} | options
    stop, records = StopAfter(steps), []
    history = net.fit(train, communicator=group, callbacks=[records.append, stop], **given)
    found = hashlib.sha256()
    for array in net.store.arrays().values():
        found.update(array.tobytes())
    for event in records[:steps]:
        if isinstance(event, nc.StepEnd):
            found.update(np.array([event.loss, event.accuracy]).tobytes())
    for record in history.epochs:
        found.update(repr((record.loss, record.accuracy, record.validation_loss, record.score)).encode())
    hashes = set(group.gather(found.hexdigest()))
    assert len(hashes) == 1, "ranks differ"
    if group.is_first:
        print(hashes.pop()[:16])


def evaluate():
    """Print the measures of classes, masks and boxes."""
    group = connect()
    nc.set_num_threads(1)
    for case in (lenet5, unet, detector):
        net, train, _ = case()
        net.fit(train, epochs=1, batch_size=48, optimizer=nc.SGD(0.001))
        test = train[0][:45], train[1][:45]
        found = net.evaluate(test, communicator=group)
        if group.is_first:
            print(found)


def other_seed():
    group = connect()
    net, train, _ = small()
    net.fit(train, seed=group.rank, communicator=group)


def error_on_rank_1():
    group = connect()
    net, train, _ = small()

    def callback(event):
        if group.rank == 1:
            raise ValueError("an error of one rank")

    net.fit(train, shards=4, callbacks=[callback], communicator=group)


def fit_after_an_error():
    from mpi4py import MPI

    net, train, _ = small()

    def callback(event):
        if MPI.COMM_WORLD.rank == 1:
            raise ValueError("an error of one rank")

    for callbacks in ([callback], [], []):
        try:
            net.fit(train, shards=4, callbacks=callbacks, communicator=MPI.COMM_WORLD)
        except (ValueError, nc.NumbacnnError) as error:
            print(f"{MPI.COMM_WORLD.rank}: {error}", flush=True)


def train_after_a_stop():
    group = connect()
    net, train, _ = small()
    given = {"optimizer": "sgd", "epochs": 2, "batch_size": 24, "seed": 0, "shards": 4, "communicator": group}
    for requested in (True, False):
        trainer = Trainer(net, nc.data.Dataset.of(train), **given)
        for event in trainer.run():
            if trainer.stops(requested, event):
                break
        if group.is_first:
            print(len(trainer.history))


def stop_at_the_end():
    """Stop the process of rank 1 when it has trained, before it has said so to the others."""
    group = connect()
    if group.rank == 1:
        atexit.register(os.kill, os.getpid(), signal.SIGSTOP)


if __name__ == "__main__":
    case, *numbers = sys.argv[1:]
    if case in CASES:
        run(case, *map(int, numbers))
    else:
        globals()[case]()
