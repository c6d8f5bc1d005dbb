"""Networks that PyTorch exports compute what they compute there, and so do their gradients."""

import warnings

import numpy as np
import pytest
from engine import assert_close, generator_of

import numbacnn as nc

pytest.importorskip("onnx", reason="onnx is not installed")
torch = pytest.importorskip("torch", reason="PyTorch is not installed")

nn = torch.nn


class Block(nn.Module):
    """Depthwise convolution, squeeze-and-excitation, channel shuffle, halves, and a flattened image."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.squeeze, self.excite = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.fc = nn.Linear(4 * 6 * 5, 7)

    def forward(self, x):
        x = nn.functional.silu(self.norm(self.conv(x)))
        x = x + nn.functional.gelu(self.depthwise(x))
        gate = self.excite(nn.functional.relu(self.squeeze(nn.functional.adaptive_avg_pool2d(x, 1))))
        x = x * nn.functional.hardsigmoid(gate)
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        a, b = x.chunk(2, dim=1)
        return self.fc(torch.flatten(nn.functional.hardswish(a) * torch.sigmoid(b), 1))


def exported(network, x, path):
    options = {"input_names": ["x"], "dynamic_axes": {"x": {0: "n"}}, "do_constant_folding": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (x,), str(path), dynamo=False, training=torch.onnx.TrainingMode.PRESERVE, **options)
    return nc.onnx.load(path)


@pytest.mark.parametrize("training", [False, True])
def test_outputs_and_gradients_agree(training, tmp_path):
    torch.manual_seed(0)
    network, x = Block(), torch.randn(4, 3, 12, 10)
    nn.init.uniform_(network.norm.running_var, 0.5, 2)
    model = exported(network.eval(), x, tmp_path / "m.onnx")
    y = network.train(training)(x)
    images = x.permute(0, 2, 3, 1).numpy()
    assert_close(model.forward(images, training=training), y.detach().numpy(), "output")
    if training:
        dy = generator_of("dy").standard_normal(y.shape).astype(np.float32)
        y.backward(torch.from_numpy(dy))
        model.backward(dy)
        for name, weight in network.named_parameters():
            gradient = weight.grad.numpy()
            if gradient.ndim == 4:
                gradient = gradient.transpose(2, 3, 1, 0)
            if name == "fc.weight":  # features in the order of our images
                gradient = gradient.reshape(7, 4, 6, 5).transpose(2, 3, 1, 0).reshape(120, 7)
            assert_close(model.gradients[name], gradient, name, 1e-4)
