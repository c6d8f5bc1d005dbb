"""onnxruntime as a peer in inference: it runs the file that ``numbacnn.onnx`` writes."""

from collections.abc import Sequence

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from numbacnn.bench.cases import FORWARD, Case
from numbacnn.bench.peers import Arrays, Peer
from numbacnn.bench.timing import Work
from numbacnn.bench.work import graph_of
from numbacnn.engine.graph import Graph
from numbacnn.onnx.writer import Options, Writer
from numbacnn.saving.pretrained import from_state_dict, state_dict_shapes


class OnnxruntimePeer(Peer):
    """onnxruntime on the CPU, which has no gradients."""

    version = onnxruntime.__version__
    _threads = 0  # onnxruntime's default

    def configure(self, threads: int, precision: str) -> None:
        """Set the number of threads of new sessions."""
        self._threads = threads

    def inference(self, graph: Graph, arrays: Arrays, inputs: Sequence[NDArray[np.float32]]) -> dict[str, Work]:
        """Return a forward pass of a session with all optimizations."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        model = Writer(graph.inference, from_state_dict(graph, arrays), Options(batch=len(inputs[0]))).model({})
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        feeds = {
            name: np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if x.ndim == 4 else x
            for name, x in zip(graph.input_names, inputs, strict=True)
        }
        return {"all optimizations": lambda: session.run(None, feeds)}

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


PEERS = {"cpu": OnnxruntimePeer()}
