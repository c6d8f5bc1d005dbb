"""Runtimes that run a file for inputs (N, C, H, W). It imports nothing of numbacnn, and runs in other environments too.

python runtimes.py RUNTIME FOLDER: runs every FOLDER/NAME.onnx on FOLDER/NAME.npy, and writes FOLDER/NAME.out.npy
"""

import sys
from pathlib import Path

import numpy as np


def onnxruntime(path, images):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: images})[0]


def openvino(path, images):
    import openvino

    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return compiled(images)[0]


def cv2(path, images):
    import cv2

    network = cv2.dnn.readNetFromONNX(str(path))
    network.setInput(images)
    return network.forward()


RUNTIMES = {"onnxruntime": onnxruntime, "openvino": openvino, "cv2": cv2}


if __name__ == "__main__":
    for file in Path(sys.argv[2]).glob("*.onnx"):
        np.save(file.with_suffix(".out.npy"), RUNTIMES[sys.argv[1]](file, np.load(file.with_suffix(".npy"))))
