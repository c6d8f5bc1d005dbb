"""The libraries to compare with: PyTorch and onnxruntime, if they are installed. Neither is a dependency."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from numbacnn.bench.cases import Case
from numbacnn.bench.timing import Work
from numbacnn.engine.graph import Graph
from numbacnn.engine.locks import get_num_threads

INSTALL = "pip install 'numbacnn[bench]'"

Arrays = Mapping[str, NDArray[np.float32]]
"""Parameters and state by their names in PyTorch, as ``pretrained.state_dict`` returns them."""


class Peer(Protocol):
    """A module that adapts a library. Its functions return the work to time, one function for each mode."""

    VERSION: str
    TRAINING_MODES: Sequence[str]

    def unavailable(self) -> str | None:
        """Return why the library cannot run, or None."""

    def set_num_threads(self, count: int) -> None:
        """Set the number of CPU threads."""

    def set_precision(self, precision: str) -> None:
        """Set the precision of convolutions and dense layers, if the library can."""

    def kernel(self, case: Case, direction: str) -> dict[str, Work]:
        """Return one direction of a case alone, or nothing if the library has no such kernel."""

    def inference(self, graph: Graph, arrays: Arrays, inputs: Sequence[NDArray[np.float32]]) -> dict[str, Work]:
        """Return a forward pass of the inference graph; ``inputs`` are (N, H, W, C)."""

    def training_step(
        self,
        graph: Graph,
        arrays: Arrays | None,
        inputs: Sequence[NDArray[np.float32]],
        labels: NDArray[np.int64],
        auxiliary_weight: float,
        modes: Sequence[str] = ...,
    ) -> dict[str, Work]:
        """Return a step: forward, cross-entropy, backward, SGD with momentum.

        ``arrays`` None means random weights, ``auxiliary_weight`` is that of the losses of auxiliary outputs, and
        ``modes`` are by default all of ``TRAINING_MODES``.
        """


class Requirement(NamedTuple):
    """The packages that an adapter module needs, and its name."""

    packages: tuple[str, ...]
    module: str


REQUIREMENTS = {
    "cpu": {
        "PyTorch": Requirement(("torch",), "numbacnn.bench.torch_peer"),
        "onnxruntime": Requirement(("onnx", "onnxruntime"), "numbacnn.bench.onnx_peer"),
    },
    "cuda": {"PyTorch": Requirement(("torch",), "numbacnn.bench.torch_gpu")},
}


def import_peer(module: str) -> Peer:
    """Import an adapter."""
    return cast(Peer, import_module(module))


class Peers(NamedTuple):
    """The installed peers by name, and a line about the missing ones."""

    modules: Mapping[str, Peer]
    notes: tuple[str, ...] = ()

    @property
    def versions(self) -> dict[str, str]:
        """Their versions."""
        return {name: peer.VERSION for name, peer in self.modules.items()}

    def configure(self, precision: str = "fp32") -> None:
        """Give each peer our number of threads and our precision."""
        for peer in self.modules.values():
            peer.set_num_threads(get_num_threads())
            peer.set_precision(precision)


NO_PEERS = Peers({})


def find_peers(device: str = "cpu") -> Peers:
    """Import the peers that are installed and run on the device.

    Call it before the engine starts: that sets how long OpenMP threads spin, also those of libraries loaded later.
    """
    found, missing = dict[str, Peer](), []
    for name, (packages, module) in REQUIREMENTS[device].items():
        try:
            peer = import_peer(module)
        except ModuleNotFoundError as error:
            if error.name not in packages:
                raise
            missing.append(f"{name} ({error.name} is not installed)")
            continue
        reason = peer.unavailable()
        if reason is None:
            found[name] = peer
        else:
            missing.append(f"{name} ({reason})")
    note = f"not compared with {' and '.join(missing)}: {INSTALL}"
    return Peers(found, (note,) if missing else ())
