"""Networks that others made: ten architectures of torchvision, and two trained networks that read text."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from engine import assert_close, generator_of

import numbacnn as nc

pytest.importorskip("onnx", reason="onnx is not installed")

SHORT = ("mobilenet_v3_small", "squeezenet1_1", "shufflenet_v2_x0_5")
NETWORKS = (
    *SHORT,
    "resnet18",
    "efficientnet_b0",
    "densenet121",
    "regnet_y_400mf",
    "mnasnet0_5",
    "googlenet",
    "vgg11_bn",
)
SIZES = {"vgg11_bn": 224}  # PyTorch exports its adaptive pool only if it divides the image
CLASSIFIER, DETECTOR = "ch_ppocr_mobile_v2.0_cls_infer", "ch_PP-OCRv4_det_infer"


def some(names, short):
    return [pytest.param(name, marks=[] if name in short else [pytest.mark.long]) for name in names]


@pytest.fixture(scope="module")
def torchvision_networks():
    pytest.importorskip("torch", reason="PyTorch is not installed")
    if find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed")
    from numbacnn.bench import torchvision_networks

    return torchvision_networks


def channels_last(x):
    return np.ascontiguousarray(np.moveaxis(x, 1, -1))


def test_all_ten_are_tested(torchvision_networks):
    assert sorted(NETWORKS) == sorted(torchvision_networks.NAMES)


@pytest.mark.parametrize("name", some(NETWORKS, SHORT))
def test_outputs_agree_with_pytorch(name, torchvision_networks, tmp_path):
    import torch

    shape = (3, SIZES.get(name, 64), SIZES.get(name, 64))
    network = torchvision_networks.make(name, classes=10)
    torchvision_networks.save(network, tmp_path / "m.onnx", shape)
    model = nc.onnx.load(tmp_path / "m.onnx")
    images = generator_of(name).standard_normal((2, *shape)).astype(np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(images)).numpy()
    assert_close(model.forward(channels_last(images)), expected, name, 1e-5)


@pytest.mark.parametrize("name", some(("shufflenet_v2_x0_5", "mobilenet_v3_small", "resnet18"), SHORT[2:]))
def test_gradients_of_a_training_step_agree_with_pytorch(name, torchvision_networks, tmp_path):
    """In training mode, with the statistics of the batch, and the cross-entropy of random labels."""
    import torch

    network = torchvision_networks.make(name, classes=10)
    torchvision_networks.save(network, tmp_path / "m.onnx", (3, 32, 32), fold=False)
    model = nc.onnx.load(tmp_path / "m.onnx")
    draw = generator_of(name)
    images, labels = smooth_images(network.train(), draw), draw.integers(0, 10, 8)
    logits = network(images)
    torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels)).backward()
    found = model.forward(channels_last(images.numpy()), training=True)
    assert_close(found, logits.detach().numpy(), f"{name}, logits", 1e-4)
    model.backward(cross_entropy_gradient(found, labels))
    weights = dict(network.named_parameters())
    assert weights.keys() <= model.gradients.keys()  # a shuffle of channels may have a matrix, which is frozen
    size = np.sqrt(sum(np.linalg.norm(weight.grad) ** 2 for weight in weights.values()))
    for key, weight in weights.items():
        order = in_order(model.parameters[key], model.gradients[key])
        expected = in_order(weight.detach().numpy(), weight.grad.numpy())
        np.testing.assert_array_equal(order[0], expected[0], key)
        wrong, right = np.linalg.norm(order[1] - expected[1]), np.linalg.norm(expected[1])
        assert wrong <= 1e-3 * max(right, 1e-3 * size), (
            f"{key}: off by {wrong:.3g} of {right:.3g}, of {size:.3g} in all"
        )


def smooth_images(network, draw, margin=1e-5):
    """Eight images with no activation or maximum so near a kink that rounding decides which gradient it has."""
    import torch

    nearest = []

    def near(module, inputs):
        (x,) = inputs
        if isinstance(module, torch.nn.MaxPool2d):
            windows = torch.nn.functional.unfold(x, module.kernel_size, padding=module.padding, stride=module.stride)
            area = module.kernel_size**2
            top = windows.view(len(x), -1, area, windows.shape[-1]).topk(2, dim=2).values
            nearest.append((top[:, :, 0] - top[:, :, 1])[top[:, :, 0] > 0].min())
        else:
            kinks = (0,) if isinstance(module, torch.nn.ReLU) else (-3, 3)
            nearest.extend((x - kink).abs().min() for kink in kinks)

    kinds = (torch.nn.ReLU, torch.nn.Hardswish, torch.nn.Hardsigmoid, torch.nn.MaxPool2d)
    hooks = [m.register_forward_pre_hook(near) for m in network.modules() if isinstance(m, kinds)]
    for _ in range(1000):
        nearest.clear()
        images = torch.from_numpy(draw.standard_normal((8, 3, 32, 32)).astype(np.float32))
        with torch.no_grad():
            network(images)
        if min(nearest) > margin:
            for hook in hooks:
                hook.remove()
            return images
    raise AssertionError("every batch has an activation near a kink")


def cross_entropy_gradient(logits, labels):
    """Return the gradient of the mean cross-entropy."""
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    shares[np.arange(len(labels)), labels] -= 1
    return shares / len(labels)


def in_order(weight, gradient):
    """Weights in increasing order with their gradients: the importer may keep them in an order of its own."""
    order = np.lexsort((gradient.ravel(), weight.ravel()))
    return weight.ravel()[order], gradient.ravel()[order]


# -- networks that read text ------------------------------------------------------------------------------------------


def compare(name, images):
    """Both outputs of a network from the wheel of rapidocr-onnxruntime, images N×H×W×3 between 0 and 255."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    spec = find_spec("rapidocr_onnxruntime")
    if spec is None:
        pytest.skip("rapidocr-onnxruntime is not installed (pip install --no-deps rapidocr-onnxruntime==1.4.4)")
    path = Path(spec.origin).parent / "models" / f"{name}.onnx"
    x = ((images / 255 - 0.5) / 0.5).astype(np.float32)
    first = np.ascontiguousarray(np.moveaxis(x, -1, 1))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"x": first})
    found = nc.onnx.load(path, shapes={"x": first.shape[1:]}).forward(x)
    return found, np.moveaxis(expected, 1, -1)


def photograph(width, height):
    """A photograph of buildings with a line of text on it."""
    from PIL import Image, ImageDraw, ImageFont
    from sklearn.datasets import load_sample_image

    picture = Image.fromarray(load_sample_image("china.jpg")).resize((width, height))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((8, 8, 184, 56), fill="white")
    draw.text((18, 16), "PALACE 1420", fill="black", font=ImageFont.load_default(26))
    return picture


def test_direction_of_text():
    seeded = generator_of("direction").integers(0, 256, (2, 48, 192, 3))
    line = photograph(320, 224).crop((8, 8, 184, 56)).resize((192, 48))
    found, expected = compare(CLASSIFIER, np.stack([*seeded, np.asarray(line), np.asarray(line.rotate(180))]))
    assert_close(found, expected, "classes", 1e-5)
    assert found[2:].argmax(axis=1).tolist() == [0, 1]  # upright, upside down


@pytest.mark.parametrize("seeded", [True, False])
def test_detection_of_text(seeded):
    image = generator_of("text").integers(0, 256, (224, 320, 3)) if seeded else np.asarray(photograph(320, 224))
    found, expected = compare(DETECTOR, image[None])
    assert abs(found - expected).max() < 1e-4
    if not seeded:
        assert found[0, 16:48, 24:168].max() > 0.9  # the line of text
        assert found[0, 120:].max() < 0.3  # only buildings
