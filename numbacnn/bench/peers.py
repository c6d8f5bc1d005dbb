"""Who there is to be compared with: PyTorch and onnxruntime, where they are installed. Neither is a dependency."""

from importlib import import_module
from types import ModuleType
from typing import NamedTuple

from numbacnn.device import get_num_threads

INSTALL = "pip install 'numbacnn[bench]'"
MODULES = {  # packages that a peer needs, and what carries our models over to it
    "PyTorch": (("torch",), "numbacnn.bench.torch_peer"),
    "onnxruntime": (("onnx", "onnxruntime"), "numbacnn.bench.onnx_peer"),
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


NO_PEERS = Peers({})


def find_peers() -> Peers:
    """Imports the peers that are installed.

    To be called before the engine starts: that sets how long threads of OpenMP spin, for libraries loaded later too.
    """
    found, missing = dict[str, ModuleType](), []
    for name, (packages, module) in MODULES.items():
        try:
            found[name] = import_module(module)
        except ModuleNotFoundError as error:
            if error.name not in packages:
                raise
            missing.append(f"{name} ({error.name} is not installed)")
    told = f"not compared with {' and '.join(missing)}: {INSTALL}"
    return Peers(found, (told,) if missing else ())
