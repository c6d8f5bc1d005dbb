"""Shared code of the peers that run ONNX files: both runtimes run the file that ``numbacnn.onnx`` writes."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from numbacnn.bench.cases import FORWARD, Case
from numbacnn.bench.peers import Arrays, Peer
from numbacnn.bench.timing import Work
from numbacnn.bench.work import graph_of
from numbacnn.engine.graph import Graph
from numbacnn.onnx.writer import Options, Writer
from numbacnn.saving.pretrained import from_state_dict, state_dict_shapes


class OnnxPeer(Peer):
    """A runtime on the CPU, which has no gradients."""

    _threads = 0  # the runtime's default

    def configure(self, threads: int, precision: str) -> None:
        """Set the number of threads of networks that are loaded afterwards."""
        self._threads = threads

    def kernel(self, case: Case, direction: str) -> dict[str, Work]:
        """Return a layer's forward pass; there are no batch statistics."""
        if direction != FORWARD:
            return {}
        graph = graph_of(case)
        if graph.nodes[0].layer.normalizes:
            return {}
        draw = np.random.default_rng(0)
        arrays = {name: draw.standard_normal(shape, np.float32) for name, shape in state_dict_shapes(graph).items()}
        return self.inference(graph, arrays, [draw.standard_normal((case.batch, *case.shape), np.float32)])


def exported(graph: Graph, arrays: Arrays, batch: int) -> bytes:
    """Return the ONNX file of the inference graph for batches of one size."""
    model = Writer(graph.inference, from_state_dict(graph, arrays), Options(batch=batch)).model({})
    return bytes(model.SerializeToString())


def channels_first(inputs: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    """Return images (N, H, W, C) as the contiguous (N, C, H, W) that the file takes, and features unchanged."""
    return [np.ascontiguousarray(x.transpose(0, 3, 1, 2) if x.ndim == 4 else x) for x in inputs]
