"""Who there is to be compared with: PyTorch and onnxruntime, where they are installed. Neither is a dependency."""

from importlib import import_module
from types import ModuleType
from typing import NamedTuple

from numbacnn.engine.locks import get_num_threads

INSTALL = "pip install 'numbacnn[bench]'"
MODULES: dict[
    str, dict[str, tuple[tuple[str, ...], str]]
] = {  # by device: packages that a peer needs, and what carries our models over to it
    "cpu": {
        "PyTorch": (("torch",), "numbacnn.bench.torch_peer"),
        "onnxruntime": (("onnx", "onnxruntime"), "numbacnn.bench.onnx_peer"),
    },
    "cuda": {"PyTorch": (("torch",), "numbacnn.bench.torch_gpu")},
}


class Peers(NamedTuple):
    """The modules of the peers that are here, by name, and a line about those missing."""

    modules: dict[str, ModuleType]
    notes: tuple[str, ...] = ()

    @property
    def versions(self) -> dict[str, str]:
        """Of the peers that are here."""
        return {name: module.VERSION for name, module in self.modules.items()}

    def share_threads(self) -> None:
        """Gives each as many threads as we have."""
        for module in self.modules.values():
            module.set_num_threads(get_num_threads())

    def share_precision(self, precision: str) -> None:
        """Has each round what it multiplies as we do, where it can."""
        for module in self.modules.values():
            if hasattr(module, "set_precision"):
                module.set_precision(precision)


NO_PEERS = Peers({})


def find_peers(device: str = "cpu") -> Peers:
    """Imports the peers that are installed, and run on the device.

    To be called before the engine starts: that sets how long threads of OpenMP spin, for libraries loaded later too.
    """
    found, missing = dict[str, ModuleType](), []
    for name, (packages, module) in MODULES[device].items():
        try:
            peer = import_module(module)
        except ModuleNotFoundError as error:
            if error.name not in packages:
                raise
            missing.append(f"{name} ({error.name} is not installed)")
            continue
        reason = peer.why_not() if hasattr(peer, "why_not") else None
        if reason is None:
            found[name] = peer
        else:
            missing.append(f"{name} ({reason})")
    told = f"not compared with {' and '.join(missing)}: {INSTALL}"
    return Peers(found, (told,) if missing else ())
