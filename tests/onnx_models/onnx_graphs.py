"""Small graphs of ONNX's own helpers, and what the importer makes of them."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import numbacnn as nc

F = np.float32


def graph_of(nodes, shape, arrays=(), outputs=("y",), opset=18):
    """A model of nodes (op, inputs, output, attributes) on the input "x" (N, *shape)."""
    made = [helper.make_node(op, inputs.split(), [y], name=y, **attributes) for op, inputs, y, attributes in nodes]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ("n", *shape))
    ys = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    tensors = [numpy_helper.from_array(np.asarray(a), name) for name, a in dict(arrays).items()]
    return helper.make_model(
        helper.make_graph(made, "g", [x], ys, tensors), opset_imports=[helper.make_opsetid("", opset)]
    )


def loaded(path, model):
    onnx.save(model, path)
    return nc.onnx.load(path)


def ops_of(model):
    return [node.layer.op for node in model.graph.nodes]
