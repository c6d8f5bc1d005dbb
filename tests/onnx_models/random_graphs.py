"""Random small graphs of ONNX's operators, of those that the importer's table has, with attributes of many kinds.

Each operator is computed by onnx's reference as soon as it is drawn: that gives the shapes that the next may use, and
the expected results. What the reference rejects, or what leaves the range of usual numbers, is drawn again.
"""

import warnings
from random import Random

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from random_operators import KINDS

F = np.float32
LARGEST, LIMIT = 2_000, 1e4  # elements of a value, and their size
OPSETS = range(11, 23)


def of_onnxruntime(node, feeds, opset):
    """The results of one operator."""
    import onnxruntime

    inputs = [
        helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for k, a in feeds.items()
    ]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in node.output]
    ids = [helper.make_opsetid("", opset)]
    model = helper.make_model(
        helper.make_graph([node], "one", inputs, outputs),
        opset_imports=ids,
        ir_version=max(8, helper.find_min_ir_version_for(ids)),
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


class Drawing:
    """A graph while it is drawn. ``values`` are the results of operators by name, ``arrays`` the initializers."""

    def __init__(self, seed: int, kind: str | None = None):
        self.random, self.numbers = Random(f"{seed} {kind}"), np.random.default_rng(seed)
        self.opset = self.random.choice(OPSETS)
        self.nodes, self.arrays, self.values = [], {}, {}
        shape = self.random.choice([(4, 5, 6), (6, 4, 4), (1, 7, 3), (8, 2, 2), (12,), (6, 9), (4, 6, 5), (3, 5, 5)])
        self.values["x"] = self.numbers.standard_normal((2, *shape)).astype(F)
        if self.random.random() < 0.2:
            self.values["x2"] = self.numbers.standard_normal((2, *shape)).astype(F)
        self.inputs = list(self.values)

    # -- choices ------------------------------------------------------------------------------------------------------

    def one(self, *choices):
        return self.random.choice(choices)

    def often(self, share=0.5):
        return self.random.random() < share

    def value(self, *ranks):
        """A value of one of these ranks, the batch included; one of the last ones more often than others."""
        names = [name for name, x in self.values.items() if not ranks or x.ndim in ranks]
        if not names:
            raise LookupError
        name = names[-1] if self.often() else self.random.choice(names)
        return name, self.values[name]

    def constant(self, array, share=0.3):
        """An initializer, or a Constant; sometimes one that others use too, if it has the same shape and type."""
        array = np.asarray(array)
        same = [k for k, a in self.arrays.items() if a.shape == array.shape and a.dtype == array.dtype == F]
        if same and self.often(share):
            return self.random.choice(same)
        name = f"c{len(self.arrays)}"
        self.arrays[name] = array
        return name

    def integers(self, *numbers):
        return self.constant(np.array(numbers, np.int64))

    def normal(self, *shape, share=0.3):
        return self.constant(self.numbers.standard_normal(shape).astype(F), share)

    def axis(self, x, first=1):
        axis = self.random.randrange(first, x.ndim)
        return axis - x.ndim if self.often() else axis

    # -- operators ----------------------------------------------------------------------------------------------------

    def add(self, op, inputs, count=1, **attributes):
        """Add an operator and compute it. Raises an error of the reference, or LookupError for unusual numbers."""
        names = [f"v{len(self.nodes)}_{i}" for i in range(count)]
        node = helper.make_node(op, inputs, names, name=f"{op}_{len(self.nodes)}", **attributes)
        found = self._computed(node)
        for y in found:
            if not 0 < y.size <= LARGEST or y.dtype != F or not (np.abs(y) < LIMIT).all() or len(y) != 2:
                raise LookupError(f"{op}: {y.shape}, {y.dtype}")
        self.nodes.append(node)
        self.values.update(zip(names, found, strict=True))

    def _computed(self, node):
        graph = helper.make_graph(
            [node],
            "one",
            [
                helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None)
                for name in dict.fromkeys(node.input)
                if name
            ],
            [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in node.output],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)])
        known = self.values | self.arrays
        feeds = {name: known[name] for name in node.input if name}
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                return ReferenceEvaluator(model).run(None, feeds)
            except Exception:  # it has no transposed convolutions in groups
                return of_onnxruntime(node, feeds, self.opset)

    def extend(self, kind):
        """Add an operator of one kind; say whether it worked."""
        try:
            KINDS[kind](self)
        except Exception:  # of the reference, which raises anything
            return False
        return True

    def model(self):
        """The graph as a model; its outputs are the values that nothing reads, and sometimes others."""
        read = {name for node in self.nodes for name in node.input}
        made = [name for name in self.values if name not in self.inputs]
        outputs = [name for name in made if name not in read or self.often(0.15)]
        declared = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ("n", *self.values[name].shape[1:]))
            for name in (*self.inputs, *outputs)
        ]
        ids = [helper.make_opsetid("", self.opset)]
        graph = helper.make_graph(
            self.nodes,
            "random",
            [declared[i] for i, name in enumerate(self.inputs) if name in read],
            declared[len(self.inputs) :],
            [numpy_helper.from_array(a, name) for name, a in self.arrays.items() if name in read],
        )
        return helper.make_model(graph, opset_imports=ids, ir_version=max(8, helper.find_min_ir_version_for(ids)))


def draw(seed: int, kind: str | None = None):
    """A model, its inputs and its outputs by name; ``kind`` is an operator that it has."""
    drawing = Drawing(seed, kind)
    for _ in range(drawing.random.randrange(0 if kind else 1, 5)):
        drawing.extend(drawing.random.choice(list(KINDS)))
    for _ in range(20 if kind else 0):
        if drawing.extend(kind):
            break
    for _ in range(drawing.random.randrange(3)):
        drawing.extend(drawing.random.choice(list(KINDS)))
    if not drawing.nodes:
        drawing.add("Relu", ["x"])
    model = drawing.model()
    xs = {item.name: drawing.values[item.name] for item in model.graph.input}
    return model, xs, {item.name: drawing.values[item.name] for item in model.graph.output}
