"""The libraries to compare with: PyTorch, onnxruntime and OpenVINO, if installed. None is a dependency."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from numbacnn.bench.cases import Case
from numbacnn.bench.timing import Work
from numbacnn.engine.graph import Graph
from numbacnn.engine.locks import get_num_threads

INSTALL = "pip install 'numbacnn[bench]'"
RUNTIMES = ("onnxruntime", "OpenVINO")  # those that only run inference

Arrays = Mapping[str, NDArray[np.float32]]
"""Parameters and state by their names in PyTorch, as ``pretrained.state_dict`` returns them."""


class Peer:
    """A library. Its methods return the functions to time, one for each mode, or none if it cannot do the work."""

    version: str
    training_modes: Sequence[str] = ()

    def unavailable(self) -> str | None:
        """Return why the library cannot run, or None."""
        return None

    def configure(self, threads: int, precision: str) -> None:
        """Set the number of threads, and if it can the precision of convolutions and dense layers."""
        raise NotImplementedError

    def kernel(self, case: Case, direction: str) -> dict[str, Work]:
        """Return one direction of a case alone."""
        raise NotImplementedError

    def inference(self, graph: Graph, arrays: Arrays, inputs: Sequence[NDArray[np.float32]]) -> dict[str, Work]:
        """Return a forward pass of the inference graph; ``inputs`` are (N, H, W, C)."""
        raise NotImplementedError

    def training_step(
        self,
        graph: Graph,
        arrays: Arrays | None,
        inputs: Sequence[NDArray[np.float32]],
        labels: NDArray[np.int64],
        auxiliary_weight: float,
        modes: Sequence[str] | None = None,
    ) -> dict[str, Work]:
        """Return a step: forward, cross-entropy, backward, SGD with momentum.

        ``arrays`` None means random weights, ``auxiliary_weight`` is that of the losses of auxiliary outputs, and
        ``modes`` are by default all of ``training_modes``.
        """
        return {}


# The packages that a peer needs, and the module that has it in PEERS.
REQUIREMENTS: dict[str, dict[str, tuple[tuple[str, ...], str]]] = {
    "cpu": {
        "PyTorch": (("torch",), "numbacnn.bench.torch_peer"),
        "onnxruntime": (("onnx", "onnxruntime"), "numbacnn.bench.onnxruntime_peer"),
        "OpenVINO": (("onnx", "openvino"), "numbacnn.bench.openvino_peer"),
    },
    "cuda": {"PyTorch": (("torch",), "numbacnn.bench.torch_peer")},
}


def import_peer(name: str, device: str = "cpu") -> Peer:
    """Import a peer. Raises ModuleNotFoundError if it is not installed."""
    peer: Peer = import_module(REQUIREMENTS[device][name][1]).PEERS[device]
    return peer


class Peers(NamedTuple):
    """The installed peers by name, and a line about the missing ones."""

    found: Mapping[str, Peer]
    notes: tuple[str, ...] = ()

    @property
    def versions(self) -> dict[str, str]:
        """Their versions."""
        return {name: peer.version for name, peer in self.found.items()}

    def configure(self, precision: str = "fp32") -> None:
        """Give each peer our number of threads and our precision."""
        for peer in self.found.values():
            peer.configure(get_num_threads(), precision)


NO_PEERS = Peers({})


def find_peers(device: str = "cpu") -> Peers:
    """Import the peers that are installed and run on the device.

    Call it before the engine starts: where it uses OpenMP, it sets how long threads spin, also those of libraries
    loaded later.
    """
    found, missing = dict[str, Peer](), []
    for name, (packages, _) in REQUIREMENTS[device].items():
        try:
            peer = import_peer(name, device)
        except ModuleNotFoundError as error:
            if error.name not in packages:
                raise
            missing.append(f"{name} ({error.name} is not installed)")
            continue
        if reason := peer.unavailable():
            missing.append(f"{name} ({reason})")
        else:
            found[name] = peer
    note = f"not compared with {', '.join(missing)}: {INSTALL}"
    return Peers(found, (note,) if missing else ())
