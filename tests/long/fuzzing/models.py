"""Model files: their bytes, headers and graphs."""

import json
from copy import deepcopy
from random import Random

import numpy as np
from safetensors.numpy import save

import numbacnn as nc
from fuzzing.mutations import SIZES, altered, edited, entries
from numbacnn.saving.format import FORMAT, VERSION, digest


class ModelFile:
    """Model files: the whole file, its header of tensors, and its graph with a valid digest."""

    error = nc.ModelFileError

    def __init__(self, folder):
        x = nc.Input((6, 6, 2))
        h = nc.MaxPool2D(2)(nc.ReLU()(nc.BatchNorm()(nc.Conv2D(2, 3, padding="same")(x))))
        h = nc.Dropout(0.5)(nc.Add()([h, nc.Conv2D(2, 1)(h)]))
        model = nc.Model(x, nc.Dense(2)(nc.Flatten()(h)))
        model.classes, model.normalization = ("a", "b"), nc.data.normalization.Normalization((0.1, 0.2), (0.3, 0.4))
        model.save(folder / "seed")
        self.seeds = [(folder / "seed").read_bytes()]
        self.arrays = {name: np.array(array) for name, array in model.store.arrays().items()}
        self.head = self.head_of(self.seeds[0])

    def mutate(self, content, random):
        kind = random.choice(["bytes", "header", "graph", "graph", "text", "nested"])
        try:
            header, head = self.header_of(content), self.head_of(content)
        except (ValueError, TypeError, LookupError, RecursionError):
            header, head = self.header_of(self.seeds[0]), self.head
        if kind == "header":
            return self.with_header(content, altered(header, random))
        if kind == "graph":
            return self.sealed(json.dumps(altered(head, random)))
        if kind == "text":
            return self.sealed(edited(json.dumps(head).encode(), random).decode("utf-8", "replace"))
        if kind == "nested":
            return self.sealed("[" * int(2 ** random.uniform(0, 17)))
        return edited(content, random)

    def header_of(self, content):
        return json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])

    def head_of(self, content):
        return json.loads(self.header_of(content)["__metadata__"]["head"])

    def with_header(self, content, header):
        """Return the tensors' bytes after another header, with its correct size."""
        text = json.dumps(header).encode()
        return len(text).to_bytes(8, "little") + text + content[8 + int.from_bytes(content[:8], "little") :]

    def sealed(self, head):
        """Return a file with this head and a valid digest."""
        metadata = {"format": FORMAT, "version": str(VERSION), "head": head}
        metadata["digest"] = digest(metadata, sorted(self.arrays.items()))
        return save(self.arrays, metadata)

    def read(self, path):
        """Check that the weights are those written, whatever the graph is."""
        for name, array in nc.load(path).store.arrays().items():
            np.testing.assert_array_equal(array, self.arrays[name], strict=True)


class Graphs(ModelFile):
    """Model files without weights: random graphs, with sizes of any magnitude, which are summarized."""

    layers = (
        *(("max_pool2d", {"pool_size": [2, 2], "stride": [2, 2], "padding": "valid", "ceil_mode": False}),) * 2,
        ("adaptive_avg_pool2d", {"output_size": [3, 3]}),
        ("adaptive_max_pool2d", {"output_size": [2, 5]}),
        ("upsample2d", {"factor": [2, 2], "mode": "nearest"}),
        ("zero_pad2d", {"padding": [1, 1, 1, 1]}),
        ("resize2d", {"size": [7, 5], "mode": "bilinear", "scale": None}),
        ("slice", {"rows": [0, 3], "columns": None, "channels": None}),
        ("reshape", {"shape": [4, 9, 2]}),
        ("local_response_norm", {"size": 5, "alpha": 1e-4, "beta": 0.75, "k": 1.0}),
        ("power", {"exponent": 2.0}),
        *((op, {}) for op in ("flatten", "global_avg_pool2d", "softmax", "relu", "gelu", "add", "concat", "multiply")),
    )

    def __init__(self, folder):
        super().__init__(folder)
        self.arrays = {}

    def mutate(self, content, random):
        """Draw a graph; what it was before does not matter."""
        random = Random(random.getrandbits(64))  # one draw of hypothesis, whatever the graph's size
        count = random.choice([1, 2, 3, 5, 8, 30, 30, 300])
        sizes = [[random.choice([1, 6, 64, 2**10, 2**20])] * 2 + [random.choice([1, 2, 64])] for _ in range(2)]
        inputs = [{"name": f"x{i}", "shape": [6, 6, 2] if random.random() < 0.8 else s} for i, s in enumerate(sizes)]
        names, nodes = [part["name"] for part in inputs], []
        for number in range(count):
            op, attributes = deepcopy(random.choice(self.layers if random.random() < 0.6 else self.layers[-5:]))
            for holder, key in [*entries(attributes)]:
                if isinstance(holder[key], int) and random.random() < 0.1:
                    holder[key] = random.choice(SIZES)
            read = 1 if op not in ("add", "concat", "multiply") else random.choice([2, 2, 3, 50])
            chosen = [random.choice(names[-3:]) for _ in range(read)]
            nodes.append({"name": f"n{number}", "op": op, "inputs": chosen, "attributes": attributes})
            names.append(f"n{number}")
        graph = {"version": 1, "inputs": inputs, "nodes": nodes, "outputs": [names[-1]], "auxiliary": []}
        form = {"graph": graph, "classes": None, "normalization": None, "lists": [True, False], "task": None}
        return self.sealed(json.dumps(form))

    def read(self, path):
        model = nc.load(path)
        str(model.summary(show=False))
