"""Turns between a training and those who look into it: a look runs between two steps."""

import threading
from typing import Self

OFFER_SECONDS = 2.0  # that a look waits for the end of a step
LOOK_SECONDS = 1.0  # that a training waits for the end of a look


class Turns:
    """A context for a look; the training calls ``offer`` between its steps, which costs nothing while none waits.

    A lock would not do: a training that releases it between two steps takes it again before the other thread wakes.
    """

    def __init__(self) -> None:
        self._asked = self._ended = False
        self._turn, self._done = threading.Event(), threading.Event()
        self._looks = threading.Lock()

    def offer(self) -> None:
        """Let a look that waits run, and wait for its end, but not for long."""
        if not self._asked:
            return
        self._turn.set()
        self._done.wait(LOOK_SECONDS)
        self._turn.clear()

    def end(self) -> None:
        """After the training: looks wait no more."""
        self._ended = True

    def __enter__(self) -> Self:
        """Wait for the training's offer; go on without if none comes, as during a validation."""
        self._looks.acquire()
        self._done.clear()
        self._asked = True
        if not self._ended:
            self._turn.wait(OFFER_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._asked = False
        self._done.set()
        self._looks.release()
