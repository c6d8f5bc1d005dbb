"""The table of cases of all ops, gathered from their files in tests/ops.

Every case goes through every test that takes the table: against the oracle and the oracle against central differences
(``test_layers.py``), against PyTorch (``peers/test_torch.py``), on threads (``fingerprints.py``), between guard zones
(``test_guards.py``), at other addresses (``test_placement.py``), and on CUDA against the CPU
(``cuda/test_layers_on_device.py``).
"""

import importlib
from pathlib import Path

from op import Case, Op

FILES = sorted(Path(__file__).with_name("ops").glob("test_*.py"))
OPS: dict[str, Op] = {
    op.layer.op: op for op in (importlib.import_module(f"ops.{file.stem}").OP for file in FILES)
}  # fmt: skip
PICKED: list[Case] = [case for op in OPS.values() for case in op.picked]
CASES: list[Case] = [*PICKED, *(case for op in OPS.values() for case in op.drawn())]
