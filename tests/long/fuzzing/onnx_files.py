"""ONNX files."""

from random import Random

import numbacnn as nc
from fuzzing.mutations import SIZES, edited


class Onnx:
    """ONNX files, with bytes damaged, or numbers, names and operators replaced."""

    error = nc.ModelFileError

    def __init__(self, folder):
        x = nc.Input((6, 5, 4))
        h = nc.GroupNorm(2)(nc.MaxPool2D(2)(nc.GELU()(nc.BatchNorm()(nc.Conv2D(4, 3, padding=1)(x)))))
        h = nc.Multiply()([h, nc.Sigmoid()(nc.Dense(4)(nc.GlobalAvgPool2D()(h)))])
        h = nc.Concat()([nc.Upsample2D(2)(h), nc.Conv2DTranspose(3, 2, stride=2)(nc.AdaptiveAvgPool2D((3, 2))(h))])
        h = nc.Reshape((4, 7, -1))(nc.Slice(rows=(1, 5), columns=(0, 3))(nc.ZeroPad2D(1)(h)))
        h = nc.Maximum()([nc.Clip(-1, 2)(nc.Resize2D((3, 5))(h)), nc.Power(2)(nc.Resize2D((3, 5), "nearest")(h))])
        model = nc.Model(x, nc.LogSoftmax()(nc.Dense(2)(nc.PReLU()(nc.Flatten()(h)))))
        model.classes = ("a", "b")
        self.seeds = []
        for options in ({}, {"opset": 22, "layout": "nhwc", "raw_images": True}):
            nc.onnx.save(model, folder / "seed", **options)
            self.seeds.append((folder / "seed").read_bytes())

    def mutate(self, content, random):
        import onnx

        from numbacnn.onnx.folding import FOLDED
        from numbacnn.onnx.imports import ROWS

        random = Random(random.getrandbits(64))  # one draw of hypothesis, whatever protobuf does
        if random.random() < 0.5:
            return edited(content, random)
        try:
            proto = onnx.load_model_from_string(content)
            graph = proto.graph
            kind = random.choice(["dims", "numbers", "attribute", "operator", "input", "shape", "drop"])
            if kind in ("dims", "numbers"):
                tensor = random.choice(graph.initializer)
                if kind == "dims":
                    tensor.dims[random.randrange(len(tensor.dims))] = random.choice(SIZES)
                else:
                    width = len(tensor.raw_data) // 8 or 1
                    words = [random.choice(SIZES).to_bytes(8, "little", signed=True) for _ in range(width)]
                    tensor.raw_data = b"".join(words)[: len(tensor.raw_data)]
            node = random.choice(graph.node)
            if kind == "attribute":
                attribute = random.choice(node.attribute)
                attribute.i = random.choice(SIZES)
                for i in range(len(attribute.ints)):
                    attribute.ints[i] = random.choice(SIZES)
            elif kind == "operator":
                node.op_type = random.choice([*ROWS, *FOLDED])
            elif kind == "input":
                node.input[random.randrange(len(node.input))] = random.choice(random.choice(graph.node).input)
            elif kind == "shape":
                random.choice(graph.input[0].type.tensor_type.shape.dim).dim_value = random.choice(SIZES)
            elif kind == "drop":
                graph.node.remove(node)
            return proto.SerializeToString()
        except Exception:  # it is damaged already
            return edited(content, random)

    def read(self, path):
        nc.onnx.load(path)
