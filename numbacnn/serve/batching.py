"""Requests that wait at the same time are computed as one batch."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Generic, TypeAlias, TypeVar

T = TypeVar("T")
U = TypeVar("U")
R = TypeVar("R")

THREADS = 2  # one prepares items while the other computes a batch
PREPARED = 16  # items that a thread prepares before it looks whether they can be computed


Outcomes: TypeAlias = "Sequence[tuple[asyncio.Future[R] | Future[R], R | Exception]]"


def settle(outcomes: "Outcomes[R]") -> None:
    """Set the results of futures, or their errors."""
    for future, outcome in outcomes:
        if future.done():  # canceled: nobody waits for it any more
            continue
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


def settle_in_loop(outcomes: "Outcomes[R]") -> None:
    """Let the event loop of the futures set their results, all at once: each call would wake it."""
    first = outcomes[0][0]
    assert isinstance(first, asyncio.Future)
    with suppress(RuntimeError):  # the loop has been closed
        first.get_loop().call_soon_threadsafe(settle, outcomes)


class _Job(Generic[T, U, R]):
    """An item, then what was prepared of it, and the future of its result."""

    __slots__ = ("future", "item", "prepared")

    def __init__(self, item: T, future: "asyncio.Future[R] | Future[R]") -> None:
        self.item: T | None = item
        self.prepared: U | None = None
        self.future = future


class Batcher(Generic[T, U, R]):
    """Threads that ``prepare`` each item, and call ``work`` on what is prepared, one batch at a time.

    Nothing waits for a batch to fill: a single item is computed at once, and what arrives meanwhile is the next batch.
    Sizes of batches are powers of two, at most ``size``, because an engine records its launches for each size.

    Args:
        prepare: makes what ``work`` takes of one item.
        work: returns the result of each.
        deliver: gets the results of a batch, ``settle`` or ``settle_in_loop``.
        size: of a batch, at most.
        capacity: items that may wait.
    """

    def __init__(
        self,
        prepare: Callable[[T], U],
        work: Callable[[Sequence[U]], Sequence[R]],
        deliver: "Callable[[Outcomes[R]], None]" = settle_in_loop,
        size: int = 64,
        capacity: int = 1024,
    ) -> None:
        self._prepare_one, self._work, self._deliver = prepare, work, deliver
        self._size, self._capacity = size, capacity
        self._waiting: deque[_Job[T, U, R]] = deque()
        self._prepared: deque[_Job[T, U, R]] = deque()
        self._changed = threading.Condition()
        self._computing = self._closed = False
        self._threads = [
            threading.Thread(target=self._run, name="numbacnn-batches", daemon=True) for _ in range(THREADS)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, item: T, future: "asyncio.Future[R] | Future[R]") -> None:
        """Queue an item, whose result the future gets. Raises BufferError if ``capacity`` items wait already."""
        with self._changed:
            if self._closed or len(self._waiting) >= self._capacity:
                raise BufferError(f"{len(self._waiting)} requests wait already")
            self._waiting.append(_Job(item, future))
            self._changed.notify()

    def close(self) -> None:
        """End the threads after what they compute."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        settle([(job.future, BufferError("the server stops")) for job in (*self._waiting, *self._prepared)])

    # -- threads ------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while jobs := self._next():
            self._prepare(jobs)
            while batch := self._next_batch():
                self._compute(batch)

    def _next(self) -> "list[_Job[T, U, R]]":
        """Wait for items and return some; nothing after ``close``."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            count = 0 if self._closed else min(PREPARED, len(self._waiting))
            return [self._waiting.popleft() for _ in range(count)]

    def _prepare(self, jobs: "list[_Job[T, U, R]]") -> None:
        failed: list[tuple[asyncio.Future[R] | Future[R], R | Exception]] = []
        for job in jobs:
            assert job.item is not None
            try:
                job.prepared = self._prepare_one(job.item)
            except Exception as error:
                failed.append((job.future, error))
            job.item = None  # frees its memory
        if failed:
            self._deliver(failed)
        with self._changed:
            self._prepared += [job for job in jobs if job.prepared is not None and not job.future.done()]

    def _next_batch(self) -> "list[_Job[T, U, R]]":
        """Return the next batch; nothing while another thread computes, which then takes what is prepared now."""
        with self._changed:
            if self._computing or not self._prepared:
                return []
            self._computing = True
            most = min(self._size, len(self._prepared))
            return [self._prepared.popleft() for _ in range(1 << (most.bit_length() - 1))]

    def _compute(self, batch: "list[_Job[T, U, R]]") -> None:
        try:
            outcomes = self._outcomes([job.prepared for job in batch if job.prepared is not None])
        finally:
            with self._changed:
                self._computing = False
        self._deliver([(job.future, outcome) for job, outcome in zip(batch, outcomes, strict=True)])

    def _outcomes(self, items: Sequence[U]) -> "Sequence[R | Exception]":
        """Return results; after an error compute items one by one, so that one item cannot fail the others."""
        try:
            return self._work(items)
        except Exception as error:
            return [error] if len(items) == 1 else [self._outcomes([item])[0] for item in items]
