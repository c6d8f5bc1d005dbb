"""onnxruntime as a peer in inference."""

from collections.abc import Sequence

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from numbacnn.bench.onnx_peer import OnnxPeer, channels_first, exported
from numbacnn.bench.peers import Arrays
from numbacnn.bench.timing import Work
from numbacnn.engine.graph import Graph


class OnnxruntimePeer(OnnxPeer):
    """onnxruntime's own CPU kernels."""

    version = onnxruntime.__version__

    def inference(self, graph: Graph, arrays: Arrays, inputs: Sequence[NDArray[np.float32]]) -> dict[str, Work]:
        """Return a forward pass of a session with all optimizations."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        file = exported(graph, arrays, len(inputs[0]))
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        feeds = dict(zip(graph.input_names, channels_first(inputs), strict=True))
        return {"all optimizations": lambda: session.run(None, feeds)}


PEERS = {"cpu": OnnxruntimePeer()}
