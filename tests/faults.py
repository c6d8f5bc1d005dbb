"""Failing system calls of a save: a full disk, an I/O error, a short write, a killed process."""

import os
import signal
from functools import partial

CALLS = ("open", "write", "fsync", "replace", "close", "unlink")


class Faults:
    """A replacement for ``os`` in ``numbacnn.data.files`` that counts the calls and makes some of them fail.

    Call number ``at``, from 1, fails with ``error``, an error number or "kill"; with ``lasting``, so do all later calls
    of the same function. ``shortest`` limits the bytes of every write.
    """

    def __init__(self, at=0, error=None, lasting=False, shortest=None):
        self.at, self.error, self.lasting, self.shortest = at, error, lasting, shortest
        self.calls, self.failed = [], 0

    def __getattr__(self, name):
        return partial(self._call, name) if name in CALLS else getattr(os, name)

    def _call(self, name, *arguments):
        self.calls.append(name)
        number = len(self.calls)
        if number == self.at or (self.lasting and number > self.at and name == self.calls[self.at - 1]):
            self._fail(name, arguments)
        if name == "write" and self.shortest is not None:
            arguments = arguments[0], arguments[1][: self.shortest]
        return getattr(os, name)(*arguments)

    def _fail(self, name, arguments):
        if self.error == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if name == "close":  # which frees the descriptor even when it fails
            os.close(*arguments)
        self.failed += 1
        raise OSError(self.error, os.strerror(self.error))
