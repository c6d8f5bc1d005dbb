"""Every runtime reads our files, and computes what we compute: those installed here, and others in new environments."""

import subprocess
import sys
import venv

import numpy as np
import pytest
from engine import assert_close, generator_of, randomize
from runtimes import RUNTIMES

import numbacnn as nc

pytest.importorskip("onnx", reason="onnx is not installed")

SMALL = {"lenet5": (28, 28, 1), "unet_small": (16, 16, 1)}
MODELS = ("lenet5", "resnet20", "mobilenet_v2", "unet_small", "googlenet", "grid_detector")
TOLERANCE = 1e-5
VERSIONS = {
    "onnxruntime==1.16.3": ("onnxruntime", ["numpy<2"]),
    "onnxruntime==1.20.1": ("onnxruntime", []),
    "onnxruntime": ("onnxruntime", []),
    "openvino": ("openvino", []),
    "opencv-python-headless": ("cv2", []),
}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """A folder with the file and two images of each model, and our outputs (N, C, H, W)."""
    folder, found = tmp_path_factory.mktemp("files"), {}
    for name in MODELS:
        model = nc.models.make(name, input_shape=SMALL.get(name, (32, 32, 3)), classes=5)
        randomize(model, generator_of(name))
        images = generator_of(name).standard_normal((2, *model.input_shape)).astype(np.float32)
        nc.onnx.save(model, folder / f"{name}.onnx")
        np.save(folder / f"{name}.npy", np.ascontiguousarray(np.moveaxis(images, -1, 1)))
        found[name] = np.moveaxis(model.forward(images), -1, 1)
    return folder, found


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_installed_runtimes(runtime, outputs):
    pytest.importorskip(runtime, reason=f"{runtime} is not installed")
    folder, expected = outputs
    for name, ours in expected.items():
        found = RUNTIMES[runtime](folder / f"{name}.onnx", np.load(folder / f"{name}.npy"))
        assert_close(found, ours, f"{name}, {runtime}", TOLERANCE)


@pytest.mark.long
@pytest.mark.huge
@pytest.mark.parametrize("requirement", VERSIONS)
def test_other_versions(requirement, outputs, tmp_path):
    """Installs a runtime in a new environment, which needs a package index."""
    if requirement.endswith("1.16.3") and sys.version_info >= (3, 12):
        pytest.skip("onnxruntime 1.16.3 is for Python 3.11 and older")
    folder, expected = outputs
    venv.create(tmp_path, with_pip=True, symlinks=True)
    python, (runtime, others) = tmp_path / "bin" / "python", VERSIONS[requirement]
    subprocess.run([python, "-m", "pip", "install", "-q", requirement, *others], check=True)
    script = sys.modules[RUNTIMES[runtime].__module__].__file__
    subprocess.run([python, script, runtime, folder], check=True)
    for name, ours in expected.items():
        result = folder / f"{name}.out.npy"
        assert_close(np.load(result), ours, f"{name}, {requirement}", TOLERANCE)
        result.unlink()
