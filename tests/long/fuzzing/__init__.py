"""Formats that ``fuzz.py`` mutates: each a class in a module of its own.

A format has ``seeds``, the bytes of valid files; ``mutate(content, random)``, which returns other bytes;
``read(path)``, which reads a file and checks the result; and ``error``, the only exception that ``read`` may raise.
"""

from fuzzing.checkpoints import Checkpoint
from fuzzing.idx import Gzip, Idx
from fuzzing.images import Images
from fuzzing.metrics import MetricsTable
from fuzzing.models import Graphs, ModelFile
from fuzzing.onnx_files import Onnx
from fuzzing.toml import Toml

FORMATS = {"idx": Idx, "gzip": Gzip, "model": ModelFile, "graph": Graphs, "image": Images, "toml": Toml, "onnx": Onnx}
FORMATS |= {"checkpoint": Checkpoint, "metrics": MetricsTable}
