"""The DataLoader: order, exact resumption, buffers and thread."""

import threading
import time
from contextlib import suppress
from itertools import chain

import numpy as np
import pytest

from numbacnn.data import DataLoader, Dataset
from numbacnn.data import loader as loader_module
from numbacnn.data.watch import Watch
from numbacnn.errors import ArgumentError


@pytest.fixture(autouse=True)
def prefetches(monkeypatch):
    """A thread gathers batches, small as they are here."""
    monkeypatch.setattr(loader_module, "INLINE_BYTES", 0)


def dataset(count=23, dtype=np.uint8):
    images = np.arange(count * 2 * 3 * 3).reshape(count, 2, 3, 3).astype(dtype)
    return Dataset.from_arrays(images, np.arange(count) % 5)


def indices(batches):
    return [batch.indices.tolist() for batch in batches]


@pytest.mark.parametrize("inline", [0, 1 << 18])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("batch_size", [1, 4, 23, 64])
def test_batches_match_their_indices(monkeypatch, dtype, batch_size, inline):
    monkeypatch.setattr(loader_module, "INLINE_BYTES", inline)
    data = dataset(dtype=dtype)
    loader, seen = DataLoader(data, batch_size), []
    for batch in loader.epoch(0):
        assert batch.images.dtype == dtype
        assert batch.images.flags.c_contiguous
        np.testing.assert_array_equal(batch.images, data.images[batch.indices])
        np.testing.assert_array_equal(batch.labels, data.labels[batch.indices])
        seen.append(len(batch.indices))
    assert len(loader) == len(seen)
    assert sum(seen) == len(data)
    assert set(seen[:-1]) <= {batch_size}


def test_loader_shuffles_by_seed_and_epoch():
    data = dataset()
    orders = [DataLoader(data, 4, seed=seed).order(epoch).tolist() for seed in (0, 1) for epoch in (0, 1)]
    assert all(sorted(order) == list(range(23)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    loader = DataLoader(data, 4, seed=1)
    assert indices(loader.epoch(1)) == indices(loader.epoch(1)) == indices(DataLoader(data, 4, seed=1).epoch(1))
    assert [*chain.from_iterable(indices(loader.epoch(1)))] == orders[3]


def test_order_is_the_same_in_every_version():
    assert DataLoader(dataset(8), 4, seed=7).order(3).tolist() == [4, 3, 5, 6, 0, 7, 1, 2]


def test_no_shuffling():
    assert indices(DataLoader(dataset(5), 2, shuffle=False).epoch(9)) == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize("start", [0, 2, 6])
def test_start_skips_batches_of_the_same_epoch(start):
    loader = DataLoader(dataset(), 4)
    assert indices(loader.epoch(5, start=start)) == indices(loader.epoch(5))[start:]


def test_drop_last():
    loader = DataLoader(dataset(), 4, drop_last=True)
    assert len(loader) == 5
    assert {len(batch) for batch in indices(loader.epoch(0))} == {4}


def test_buffers_are_reused_and_batches_stay_valid():
    data, addresses = dataset(400), set()
    for batch in DataLoader(data, 4, prefetch=1).epoch(0):
        time.sleep(0.001)  # lets the thread run ahead
        np.testing.assert_array_equal(batch.images, data.images[batch.indices])
        addresses.add(batch.images.ctypes.data)
    assert len(addresses) == 3


def test_two_epochs_can_run_at_the_same_time():
    data, loader = dataset(), DataLoader(dataset(), 4)
    for first, second in zip(loader.epoch(0), loader.epoch(1), strict=True):
        np.testing.assert_array_equal(first.images, data.images[first.indices])
        np.testing.assert_array_equal(second.images, data.images[second.indices])


def test_small_batches_in_memory_need_no_thread(monkeypatch, tmp_path):
    before, data = threading.active_count(), dataset(400)
    mapped = np.memmap(tmp_path / "images", np.uint8, "w+", shape=data.images.shape)
    for images, bytes_inline, threads in [(data.images, 8 * 18, 0), (data.images, 8 * 18 - 1, 1), (mapped, 1 << 18, 1)]:
        monkeypatch.setattr(loader_module, "INLINE_BYTES", bytes_inline)
        batches = DataLoader(Dataset.from_arrays(images, data.labels), 8).epoch(0)
        next(batches)
        assert threading.active_count() == before + threads
        batches.close()


def test_two_epochs_can_run_at_the_same_time_inline(monkeypatch):
    monkeypatch.setattr(loader_module, "INLINE_BYTES", 1 << 18)
    test_two_epochs_can_run_at_the_same_time()


def test_closing_early_stops_the_thread():
    before = threading.active_count()
    batches = DataLoader(dataset(), 1).epoch(0)
    assert threading.active_count() == before
    next(batches)
    assert threading.active_count() == before + 1
    began = time.perf_counter()
    batches.close()
    assert time.perf_counter() - began < 1
    assert threading.active_count() == before


def test_error_in_the_consumer_stops_the_thread():
    before = threading.active_count()
    with suppress(ZeroDivisionError):
        for batch in DataLoader(dataset(), 1).epoch(0):
            len(batch.indices) / 0
    assert threading.active_count() == before


@pytest.mark.parametrize("begin", [lambda: next(DataLoader(dataset(), 1).epoch(0)), lambda: Watch(1, 1).__enter__()])
def test_an_interrupt_while_the_thread_starts_stops_it(monkeypatch, begin):
    def interrupted(thread, start=threading.Thread.start):
        start(thread)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        begin()
    assert threading.active_count() == before


def test_error_in_the_thread_reaches_the_consumer(monkeypatch):
    def fail(*_, **__):
        raise MemoryError("no room")

    monkeypatch.setattr(np, "take", fail)
    before = threading.active_count()
    with pytest.raises(MemoryError, match="no room"):
        next(DataLoader(dataset(), 4).epoch(0))
    assert threading.active_count() == before


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"prefetch": -1}, {"seed": -1}, {"seed": 1 << 64}])
def test_wrong_arguments(wrong):
    with pytest.raises(ArgumentError, match="DataLoader: "):
        DataLoader(dataset(), **({"batch_size": 4} | wrong))


def test_no_batch_at_all():
    with pytest.raises(ArgumentError, match="batch_size 24 with drop_last leaves no batch of 23 images"):
        DataLoader(dataset(), 24, drop_last=True)


@pytest.mark.parametrize(
    ("epoch", "start", "message"),
    [
        (-1, 0, "epoch=-1: .* at least 0"),
        ("3", 0, "epoch='3': pass a whole number"),
        (0, -1, "start=-1: .* at least 0"),
        (0, 7, "start=7: an epoch has 6 batches; pass a start from 0 to 6"),
    ],
)
def test_wrong_position(epoch, start, message):
    with pytest.raises(ArgumentError, match=message):
        DataLoader(dataset(), 4).epoch(epoch, start)
