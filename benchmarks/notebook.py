"""Train LeNet-5 on MNIST in a notebook's kernel: seconds from running the cell to what first shows on the screen.

    python benchmarks/notebook.py [--cold] [--data mnist] [--at-most SECONDS]

Needs ``pip install jupyter_client ipykernel``. The data has a name or is a folder. The library is imported and the data
loaded in an earlier cell. ``first`` is the first message with output, ``bar`` the first with the progress bar, and
``cell`` the end of the cell. With ``--cold`` the kernel cache is an empty folder.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from queue import Empty
from typing import Any

from jupyter_client.manager import start_new_kernel

BEFORE = """
import numbacnn as nc
from numbacnn.data import load_splits
train = load_splits({data!r}).train
model = nc.models.make("lenet5", input_shape=train.images.shape[1:], classes=10)
"""
TRAINING = "history = model.fit(train, epochs=1)"


def messages(client: Any, code: str) -> dict[str, float]:
    """Run a cell; return the seconds to its first output, to the progress bar, and to its end."""
    start, found = time.perf_counter(), dict[str, float]()
    request = client.execute(code)
    while True:
        try:
            message = client.get_iopub_msg(timeout=600)
        except Empty:
            raise TimeoutError(f"no message within 600 s of {code}") from None
        if message["parent_header"].get("msg_id") != request:
            continue
        seconds, content = time.perf_counter() - start, message["content"]
        text = str(content.get("text", "")) + str(content.get("data", ""))
        if message["msg_type"] == "error":
            raise RuntimeError("\n".join(content["traceback"]))
        if text.strip():
            found.setdefault("first", seconds)
        if "%|" in text:
            found.setdefault("bar", seconds)
        if message["msg_type"] == "status" and content["execution_state"] == "idle":
            return found | {"cell": seconds}


def measure(data: str) -> dict[str, float]:
    """Start a kernel, prepare the training, and run its cell."""
    manager, client = start_new_kernel(kernel_name="python3", extra_arguments=["--IPKernelApp.log_level=50"])
    try:
        messages(client, BEFORE.format(data=data))
        return messages(client, TRAINING)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def main() -> None:
    """Print one line of JSON; end with 1 if the first output took longer than ``--at-most``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--at-most", type=float)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as empty:
        if options.cold:
            os.environ["NUMBACNN_CACHE_DIR"] = empty
        found = measure(options.data)
    print(json.dumps({"cold": options.cold, "data": options.data} | {k: round(v, 2) for k, v in found.items()}))
    if options.at_most is not None and found.get("first", float("inf")) > options.at_most:
        sys.exit(f"the first output came after {found.get('first')} s, not {options.at_most} s")


if __name__ == "__main__":
    main()
