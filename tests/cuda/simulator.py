"""A deterministic scheduler for Numba's simulator.

Numba lets the threads of a block compete for the interpreter lock, which is hundreds of times slower at barriers, and
not reproducible. Here one thread runs at a time, from one barrier to the next, and then yields to the next thread.
"""

import threading

import numpy as np
from numba.cuda.simulator import kernel


class Thread(kernel.BlockThread):
    """A thread of a block, which first waits for its turn."""

    def __init__(self, function, block, block_index, thread_index):
        super().__init__(function, block, block_index, thread_index, debug=False)
        self.turn = threading.Lock()
        self.turn.acquire()

    def run(self):
        self.turn.acquire()
        try:
            super().run()
        finally:
            self._manager.leave(self)

    def syncthreads(self):
        self._manager.yield_turn()
        self.turn.acquire()


class Block(kernel.BlockManager):
    """The running threads of a block, in order."""

    def run(self, grid_point, *arguments):
        points = np.ndindex(*self._block_dim)
        threads = [Thread(lambda: self._f(*arguments), self, grid_point, point) for point in points]
        self.running, self.at, self.done = list(threads), 0, threading.Lock()
        self.done.acquire()
        for thread in threads:
            thread.start()
        self.running[0].turn.release()
        self.done.acquire()
        for thread in threads:
            thread.join()
        for thread in threads:
            if thread.exception:
                raise thread.exception[0].with_traceback(thread.exception[1])

    def yield_turn(self):
        """Let the next thread run; the first one follows the last."""
        self.at = (self.at + 1) % len(self.running)
        self.running[self.at].turn.release()

    def leave(self, thread):
        """Remove the running thread, which has finished."""
        self.running.remove(thread)
        if not self.running:
            self.done.release()
        else:
            self.at %= len(self.running)
            self.running[self.at].turn.release()


def install():
    """Run kernels with this scheduler from now on."""
    kernel.BlockManager = Block
