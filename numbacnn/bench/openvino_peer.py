"""OpenVINO as a peer in inference, in float32."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import properties
from openvino.properties import hint

from numbacnn.bench.onnx_peer import OnnxPeer, channels_first, exported
from numbacnn.bench.peers import Arrays
from numbacnn.bench.timing import Work
from numbacnn.engine.graph import Graph


class OpenvinoPeer(OnnxPeer):
    """OpenVINO's CPU plugin, which would compute in bfloat16 by default where the processor can."""

    version = openvino.__version__.split("-")[0]

    def inference(self, graph: Graph, arrays: Arrays, inputs: Sequence[NDArray[np.float32]]) -> dict[str, Work]:
        """Return a forward pass by each performance hint.

        "latency" is one request on all threads. "throughput" is a request for each thread, with an equal part of the
        batch, if the batch can be divided.
        """
        images, threads = channels_first(inputs), self._threads or 1
        modes: dict[str, Work] = {"latency": self._work(graph, arrays, images, hint.PerformanceMode.LATENCY, 1)}
        if threads > 1 and len(images[0]) % threads == 0:
            modes["throughput"] = self._work(graph, arrays, images, hint.PerformanceMode.THROUGHPUT, threads)
        return modes

    def _work(
        self,
        graph: Graph,
        arrays: Arrays,
        inputs: Sequence[NDArray[np.float32]],
        mode: hint.PerformanceMode,
        requests: int,
    ) -> "_Requests":
        part, core = len(inputs[0]) // requests, openvino.Core()
        options = {
            hint.inference_precision: openvino.Type.f32,
            hint.performance_mode: mode,
            hint.num_requests: requests,
            properties.inference_num_threads: self._threads,
        }
        compiled = core.compile_model(core.read_model(exported(graph, arrays, part)), "CPU", options)
        ys = [np.empty((requests * part, *tuple(y.shape)[1:]), np.float32) for y in compiled.outputs]
        made = [compiled.create_infer_request() for _ in range(requests)]
        for number, request in enumerate(made):
            rows = slice(number * part, (number + 1) * part)
            for index, x in enumerate(inputs):
                request.set_input_tensor(index, openvino.Tensor(x[rows], shared_memory=True))
            for index, y in enumerate(ys):
                request.set_output_tensor(index, openvino.Tensor(y[rows], shared_memory=True))
        return _Requests(made, inputs, ys)


@dataclass(frozen=True)
class _Requests:
    """A batch, a part for each request, which reads its inputs and writes its outputs in place.

    The requests only borrow the memory of ``inputs`` and ``outputs``.
    """

    requests: Sequence[openvino.InferRequest]
    inputs: Sequence[NDArray[np.float32]]
    outputs: Sequence[NDArray[np.float32]]

    def __call__(self) -> Sequence[NDArray[np.float32]]:
        """Run all requests at once, and return the outputs, (N, C, H, W)."""
        if len(self.requests) == 1:
            self.requests[0].infer()
            return self.outputs
        for request in self.requests:
            request.start_async()
        for request in self.requests:
            request.wait()
        return self.outputs


PEERS = {"cpu": OpenvinoPeer()}
