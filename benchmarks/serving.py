"""The server under load, the page's latency, and the cost of the dashboard.

    python benchmarks/serving.py load                    # 64 clients for 60 s, one client for 15 before: 80 s
    python benchmarks/serving.py latency lenet5 resnet18 # 50 s
    python benchmarks/serving.py dashboard               # 14 pairs of trainings: 2 minutes

``latency`` needs Chromium and playwright: it draws with the mouse, and the page measures the milliseconds from an
event of a stroke to the updated probabilities, feature maps and Grad-CAM.
"""

import argparse
import asyncio
import http.client
import io
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

import numbacnn as nc
from numbacnn.serve import Dashboard

SECONDS = 60.0
CLIENTS = 64
MODELS = {
    "lenet5": nc.models.lenet5,
    "resnet18": lambda: nc.models.resnet18(input_shape=(32, 32, 3), classes=10, stem="cifar"),
}


@contextmanager
def serving(model: str) -> Iterator[str]:
    """Start the server in a process of its own; yield its address."""
    command = [sys.executable, "-m", "numbacnn", "serve", model, "--port", "0"]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    try:
        line = ""
        while not (found := re.search(r"http://\S+", line)):
            line = child.stderr.readline()
            if not line:
                raise SystemExit("the server ended")
        yield found[0]
    finally:
        child.terminate()
        child.wait()


# -- load -------------------------------------------------------------------------------------------------------------


def load(seconds: float) -> None:
    """Measure requests per second, errors and times of /predict."""
    _, test = nc.data.load("digits")
    file = io.BytesIO()
    Image.fromarray(test.images[0, ..., 0]).save(file, "PNG")
    with serving("mnist") as url:
        rates = []
        for clients in (1, CLIENTS):
            times, errors = asyncio.run(
                _clients(url, file.getvalue(), clients, seconds if clients > 1 else seconds / 4)
            )
            rates.append(len(times) / (seconds if clients > 1 else seconds / 4))
            p50, p99 = np.percentile(times, (50, 99)) * 1000
            print(
                f"{clients} clients: {rates[-1]:,.0f} requests/s, {errors} errors, p50 {p50:.1f} ms, p99 {p99:.1f} ms"
            )
        print(f"throughput of {CLIENTS} clients over that of one: {rates[1] / rates[0]:.2f}")


async def _clients(url: str, body: bytes, count: int, seconds: float) -> tuple[list[float], int]:
    address = urlsplit(url)
    head = f"POST /predict HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    times: list[float] = []
    errors, end = 0, time.perf_counter() + seconds

    async def client() -> None:
        nonlocal errors
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        while time.perf_counter() < end:
            start = time.perf_counter()
            writer.write(head + body)
            try:
                answer = await reader.readuntil(b"\r\n\r\n")
                found = re.search(rb"content-length: (\d+)", answer)
                content = await reader.readexactly(int(found[1]) if found else 0)
                if not answer.startswith(b"HTTP/1.1 200") or b'"class":"2"' not in content:
                    errors += 1
            except (OSError, asyncio.IncompleteReadError):
                errors += 1
                reader, writer = await asyncio.open_connection(address.hostname, address.port)
            times.append(time.perf_counter() - start)
        writer.close()

    await asyncio.gather(*(client() for _ in range(count)))
    return times, errors


# -- latency ----------------------------------------------------------------------------------------------------------


def latency(names: list[str], moves: int) -> None:
    """Print percentiles of the times that the page measures."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as tools, tempfile.TemporaryDirectory() as folder:
        browser = tools.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name in names:
            file = Path(folder) / f"{name}.safetensors"
            MODELS[name]().save(file)
            with serving(str(file)) as url:
                page = browser.new_page(viewport={"width": 1400, "height": 900})
                page.goto(url)
                page.wait_for_timeout(5000)  # compiles what the page needs
                box = page.locator("#pad").bounding_box()
                assert box is not None
                page.mouse.move(box["x"] + 20, box["y"] + 150)
                page.mouse.down()
                page.evaluate("numbacnn.timings.length = 0")
                for i in range(moves):
                    angle = i / 15
                    x, y = 150 + 100 * np.cos(angle), 150 + 100 * np.sin(1.3 * angle)
                    page.mouse.move(box["x"] + x, box["y"] + y)
                    page.wait_for_timeout(25)
                page.mouse.up()
                page.wait_for_timeout(1000)
                times = page.evaluate("numbacnn.timings")
                p50, p90, p99 = np.percentile(times, (50, 90, 99))
                print(f"{name}: {len(times)} updates, p50 {p50:.1f} ms, p90 {p90:.1f} ms, p99 {p99:.1f} ms")
                page.close()
        browser.close()


# -- dashboard --------------------------------------------------------------------------------------------------------


def dashboard(pairs: int, images: int, epochs: int) -> None:
    """Compare trainings of LeNet-5 with and without a dashboard that a page reads, in turn."""
    train, test = nc.data.load("digits")
    many = train.subset(np.arange(images) % len(train))
    ratios = []
    for pair in range(pairs + 1):
        order = (True, False) if pair % 2 else (False, True)
        seconds = {on: _trained(many, test, pair, epochs, on) for on in order}
        if pair:  # the first compiles
            ratios.append(seconds[True] / seconds[False])
            print(f"{seconds[True]:.3f} s with, {seconds[False]:.3f} s without: {ratios[-1]:.4f}", flush=True)
    low, high = np.percentile(np.median(np.random.default_rng(0).choice(ratios, (1000, pairs)), axis=1), (2.5, 97.5))
    print(f"time with over without, median of {pairs} pairs: {np.median(ratios):.4f} [{low:.4f}, {high:.4f}]")


def _trained(train: nc.data.Dataset, test: nc.data.Dataset, seed: int, epochs: int, on: bool) -> float:
    """Return the seconds of a training."""
    model = nc.models.lenet5(seed=seed)
    with Dashboard(model, test) if on else nullcontext() as page:
        reader = threading.Thread(target=_read, args=(page.url if page else "",))
        if page:
            reader.start()
        start = time.perf_counter()
        model.fit(train, validation=test, epochs=epochs, callbacks=[page] if page else [], progress=False)
        seconds = time.perf_counter() - start
    if page:
        reader.join()
    return seconds


def _read(url: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    connection.request("GET", "/events")
    connection.getresponse().read()


def main() -> None:
    """Run one measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    kinds.add_parser("load").add_argument("--seconds", type=float, default=SECONDS)
    page = kinds.add_parser("latency")
    page.add_argument("models", nargs="+", choices=list(MODELS))
    page.add_argument("--moves", type=int, default=400)
    cost = kinds.add_parser("dashboard")
    cost.add_argument("--pairs", type=int, default=14)
    cost.add_argument("--images", type=int, default=40_000, help="of an epoch")
    cost.add_argument("--epochs", type=int, default=5)
    given = parser.parse_args()
    if given.kind == "load":
        load(given.seconds)
    elif given.kind == "latency":
        latency(given.models, given.moves)
    else:
        dashboard(given.pairs, given.images, given.epochs)


if __name__ == "__main__":
    main()
