"""Measure an NVIDIA GPU: print each figure with its lower bound and its target.

    python benchmarks/gpu.py [--only FIGURE …] [--data mnist] [--pairs 30] [--smoke]

The lower bound of a time is the larger of FLOPs over the peak of multiply-adds in the precision, and bytes over the
bandwidth of a triad, both measured first. PyTorch, if it is installed with CUDA, runs on the same GPU in alternation,
in its fastest mode: in both memory formats, eager, captured as a CUDA graph, and models also compiled by torch.compile.
The exit status is 1 if a target is missed.

``--smoke`` only checks that everything runs, at tiny sizes, also in the simulator (NUMBA_ENABLE_CUDASIM=1).
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from math import prod
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

import numbacnn as nc
from numbacnn._checks import brief
from numbacnn.bench import measure
from numbacnn.bench.cases import CASES, DIRECTIONS, FORWARD, OUT_OF_CACHE, Case, custom_case, in_directions
from numbacnn.bench.peaks import Peaks, measure_peaks
from numbacnn.bench.peers import Peers, find_peers
from numbacnn.bench.timing import QUICK, Effort, Launched, seconds
from numbacnn.bench.work import Cost
from numbacnn.data import Dataset
from numbacnn.engine.device import cuda_facts, get_device
from numbacnn.runs.provenance import versions
from numbacnn.runs.settings import RECIPES, Settings, read_config
from numbacnn.saving.pretrained import state_dict

TESTS = Path(__file__).parent.parent / "tests"
IMAGES, EPOCHS, BATCH = 60_000, 5, 256  # of the training of LeNet-5
COPIED = 1 << 30  # bytes
RESNET_3X3 = {  # their number in ResNet-18
    "56x56x64->64/3/1/1": 4,
    "56x56x64->128/3/2/1": 1,
    "28x28x128->128/3/1/1": 3,
    "28x28x128->256/3/2/1": 1,
    "14x14x256->256/3/1/1": 3,
    "14x14x256->512/3/2/1": 1,
    "7x7x512->512/3/1/1": 3,
}
MEMORY_BOUND = [case for case in CASES if case.origin == OUT_OF_CACHE and case.op != "depthwise_conv2d"]
MEMORY_BOUND.append(Case("relu", "112x112x64", 64))
TINY = [
    Case("batch_norm", "2x2x4", 2),
    Case("max_pool2d", "4x4x4/2/2", 1),
    Case("relu", "2x2x4", 2),
    Case("update", "50", 1),
]


class Row(NamedTuple):
    """A row of the table; ``reached`` is None without a target, or if nothing could be measured."""

    figure: str
    measured: str
    bound: str = ""
    target: str = ""
    reached: bool | None = None

    def __str__(self) -> str:
        result = {None: "", True: "reached", False: "MISSED"}[self.reached]
        return f"| {' | '.join([*self[:4], result])} |"


Rows = Iterator[Row]


@cache
def peaks_in(precision: str, smoke: bool) -> Peaks:
    """Measure the peaks of the GPU in a precision."""
    return measure_peaks(get_device("cuda", precision), smoke)


class Bench:
    """Peers, effort, data and peaks of all measurements."""

    def __init__(self, peers: Peers, effort: Effort, data: str, smoke: bool) -> None:
        self.peers, self.effort, self.data, self.smoke = peers, effort, data, smoke
        self.device = get_device("cuda")
        self.peaks = peaks_in("fp32", smoke)
        self.copy = self._copy_bandwidth()

    def _copy_bandwidth(self) -> float:
        """Measure a copy on the device in GB/s, bytes read and bytes written."""
        size = 1 << 10 if self.smoke else COPIED
        a, b = self.device.zeros(size // 4), self.device.zeros(size // 4)
        copy = Launched(lambda: self.device.write(a, b), self.device.synchronize)
        return 2 * size / min(seconds(copy, 10) for _ in range(5)) / 1e9

    def bound(self, cost: Cost, precision: str = "fp32") -> float:
        """Return the lower bound of the time in ms."""
        peaks = peaks_in(precision, self.smoke)
        return max(cost.bytes / peaks.bandwidth, cost.flops / peaks.gflops) / 1e6

    # -- rows ---------------------------------------------------------------------------------------------------------

    def accuracy(self) -> Rows:
        """Compare both devices on the tests' table of cases."""
        sys.path.insert(0, str(TESTS))
        import cases
        import engine

        smallest = sorted(cases.PICKED, key=lambda case: case.batch * sum(map(prod, case.shapes)))
        chosen = smallest[:2] if self.smoke else cases.CASES
        errors = list[tuple[float, str]]()
        for case in chosen:
            model, twin = engine.one_layer(case), engine.one_layer(case, device="cuda")
            xs, dys = engine.case_arrays(case, model)
            expected, found = engine.run(model, xs, dys).named(), engine.run(twin, xs, dys).named()
            for name, array in found.items():
                size = max(np.linalg.norm(expected[name]), 1e-20)
                errors.append((float(np.linalg.norm(array - expected[name]) / size), f"{name} of {case}"))
        worst, where = largest_error(errors)
        figure = f"all ops and gradients against the CPU, {len(chosen)} cases, fp32"
        yield Row(figure, f"relative error ≤ {worst:.1e} ({where})", "", "≤ 1e-4", worst <= 1e-4)

    def lenet5(self) -> Rows:
        """Time an epoch of LeNet-5 on random images, without augmentation."""
        draw, batch = np.random.default_rng(0), 2 if self.smoke else BATCH
        shape = (3, 4, 4, 1) if self.smoke else (IMAGES, 28, 28, 1)
        images, labels = draw.integers(0, 256, shape, np.uint8), draw.integers(0, 10, shape[0])
        model = tiny(shape[1:]) if self.smoke else nc.models.lenet5(device="cuda")
        epochs = 2 if self.smoke else 1 + EPOCHS
        history = model.fit(Dataset.from_arrays(images, labels), epochs=epochs, batch_size=batch)
        ms = 1e3 * median(record.seconds for record in history.epochs[1:])
        cost, steps = measure.training_cost(model, batch), -(-len(images) // batch)
        bound = steps * self.bound(cost)
        figure = f"LeNet-5, an epoch of {len(images):,} images, batch size {batch}"
        yield Row(figure, f"{ms:.1f} ms", f"{bound:.2f} ms", "≤ 40 ms", ms <= 40)
        if self.peers.found:
            peer = "the same in PyTorch, as a CUDA graph"
            try:
                theirs = 1e3 * torch_epoch(model, images, labels, batch, epochs)
            except Exception as error:  # a capture raises anything; the other figures remain
                yield Row(peer, f"left out: {brief(error)}", "", "≥ 2×", False)
            else:
                yield Row(peer, f"{theirs:.1f} ms, {theirs / ms:.2f}×", "", "≥ 2×", theirs >= 2 * ms)

    def mnist_fast(self) -> Rows:
        """Time the recipe's training, after one that compiles all kernels."""
        settings = Settings.resolve(read_config(RECIPES["mnist-fast"]) | {"data": self.data})
        if self.smoke:
            draw = np.random.default_rng(0)
            images, labels = draw.integers(0, 256, (3, 4, 4, 1), np.uint8), np.array([0, 1, 2])
            train = test = Dataset.from_arrays(images, labels)
            epochs, batch = 1, 2
        else:
            train, _, test = settings.load_data()
            epochs, batch = settings.epochs, settings.batch_size
        took = []
        for _ in range(2):
            shape = train.images.shape[1:]
            model = tiny(shape) if self.smoke else nc.models.make(settings.model, input_shape=shape, device="cuda")
            optimizer, schedule = settings.make_optimizer(), settings.make_schedule()
            start = time.perf_counter()
            model.fit(train, optimizer=optimizer, schedule=schedule, epochs=epochs, batch_size=batch)
            took.append(time.perf_counter() - start)
        accuracy = model.evaluate(test)["accuracy"]
        steps, cost = epochs * -(-len(train) // batch), measure.training_cost(model, batch)
        yield Row(
            "mnist-fast to 99 %, training time, warm",
            f"{took[1]:.2f} s, {accuracy:.2%}",
            f"{steps * self.bound(cost) / 1e3:.3f} s",
            "≤ 0.5 s",
            took[1] <= 0.5 and accuracy >= 0.99,
        )

    def convolutions(self) -> Rows:
        """Time the 3×3 convolutions of ResNet-18 at batch size 128, each and all together."""
        specs = {"4x4x4->4/3/1/1": 2} if self.smoke else RESNET_3X3
        totals = {direction: Cost(0, 0) for direction in DIRECTIONS[:3]}
        spent = dict.fromkeys(totals, 0.0)
        for spec, count in specs.items():
            case = custom_case("conv2d", spec, 2 if self.smoke else 128)
            selected = in_directions([case], list(totals))
            for result in measure.measure_kernels(selected, self.device, self.peers, self.effort):
                m = result.measurement
                spent[result.direction] += count * m.time.ms
                totals[result.direction] += Cost(count * m.cost.flops, count * m.cost.bytes)
                measured = f"{m.time.ms:.3f} ms, {m.gflops / self.peaks.gflops:.0%} of the peak{_ratios(m)}"
                yield Row(f"{spec}, batch {case.batch}, {result.direction}", measured, f"{self.bound(m.cost):.3f} ms")
        gradients = [direction for direction in totals if direction != FORWARD]
        for name, parts, minimum in (("forward", [FORWARD], 0.6), ("both gradients", gradients, 0.5)):
            flops, ms = sum(totals[part].flops for part in parts), sum(spent[part] for part in parts)
            share = flops / ms / 1e6 / self.peaks.gflops
            bound = sum(self.bound(totals[part]) for part in parts)
            figure = f"3×3 convolutions of ResNet-18, {name}, fp32"
            yield Row(figure, f"{share:.0%} of the peak", f"{bound:.2f} ms", f"≥ {minimum:.0%}", share >= minimum)

    def resnet18(self) -> Rows:
        """Time a training step in each precision, against PyTorch in the same."""
        try:
            for precision, minimum in (("fp32", 0.8), ("tf32", 0.4), ("bf16", 0.4)):
                yield from self._training_step(precision, minimum)
        finally:
            self.peers.configure("fp32")

    def _training_step(self, precision: str, minimum: float) -> Rows:
        self.peers.configure(precision)
        model, batch = self._resnet18(precision)
        m = measure.measure_model(model, batch, True, self.effort, self.peers).measurement
        compared = m.peers.get("PyTorch")
        bound = f"{self.bound(m.cost, precision):.2f} ms"
        measured = f"{m.time.ms:.2f} ms{_ratios(m)}"
        reached = None if compared is None else compared.ratio.ratio >= minimum
        figure = f"ResNet-18, stem cifar, a training step, batch size {batch}, {precision}"
        yield Row(figure, measured, bound, f"≥ {minimum}× the speed of PyTorch", reached)
        for note in m.notes:
            yield Row("note", note)

    def _resnet18(self, precision: str) -> tuple[nc.Model, int]:
        if self.smoke:
            return tiny((4, 4, 3), precision), 2
        shape = (32, 32, 3)
        return nc.models.resnet18(shape, 10, stem="cifar", device="cuda", precision=precision), 512

    def memory_bound(self) -> Rows:
        """Time memory-bound layers too large for the caches, against a copy."""
        selected = in_directions(TINY if self.smoke else MEMORY_BOUND)
        for result in measure.measure_kernels(selected, self.device, self.peers, self.effort):
            m, share = result.measurement, result.measurement.bandwidth / self.copy
            measured = f"{m.time.ms:.3f} ms, {m.bandwidth:,.0f} GB/s, {share:.0%} of a copy{_ratios(m)}"
            bound = f"{m.cost.bytes / self.copy / 1e6:.3f} ms"
            yield Row(
                f"{result.case}, batch {result.case.batch}, {result.direction}",
                measured,
                bound,
                "≥ 75 %",
                share >= 0.75,
            )


def largest_error(errors: list[tuple[float, str]]) -> tuple[float, str]:
    """Return the largest error, NaN above all, and its name."""
    return max(errors, key=lambda error: np.inf if np.isnan(error[0]) else error[0])


def tiny(shape: tuple[int, ...], precision: str = "fp32") -> nc.Model:
    """Make the model of the smoke test."""
    layers = [nc.Conv2D(4, 3), nc.BatchNorm(), nc.ReLU(), nc.Flatten(), nc.Dense(10)]
    return nc.Sequential(layers, shape, device="cuda", precision=precision)


def _ratios(m: measure.Measurement) -> str:
    return "".join(
        f"; {name} takes {peer.ratio.ratio:.2f}× [{peer.ratio.low:.2f}, {peer.ratio.high:.2f}], {peer.mode}"
        for name, peer in m.peers.items()
    )


def torch_epoch(model: nc.Model, images: Any, labels: Any, batch: int, epochs: int) -> float:
    """Return the median seconds of an epoch of PyTorch's twin, in its faster memory format.

    All images are on the GPU and shuffled there; a CUDA graph runs from the gathering of a batch to the update.
    """
    import torch

    from numbacnn.bench.torch_peer import captured, make_optimizer, total_loss
    from numbacnn.bench.torch_twin import FORMATS, Placement, Twin

    pixels, classes = (torch.from_numpy(np.asarray(array)).to("cuda") for array in (images, labels))
    arrays, times = state_dict(model.graph, model.store), []
    for layout in FORMATS.values():
        twin = Twin(model.graph, arrays, layout, True, Placement("cuda"))
        optimizer = make_optimizer(twin)

        def captured_step(size: int, twin: Twin = twin, optimizer: Any = optimizer, layout: Any = layout) -> Any:
            chosen = torch.arange(size, device="cuda")

            def step() -> Any:
                x = (pixels[chosen].float() / 255 - 0.1307) / 0.3081
                optimizer.zero_grad()
                ys = twin(x.permute(0, 3, 1, 2).contiguous(memory_format=layout))
                total = total_loss(ys, classes[chosen], twin, 0.0)
                total.backward()
                optimizer.step()
                return total

            return chosen, captured(step)

        sizes = {min(batch, len(images) - start) for start in range(0, len(images), batch)}
        steps = {size: captured_step(size) for size in sizes}
        for _ in range(epochs):
            start_of_epoch, sums = time.perf_counter(), torch.zeros((), device="cuda")
            order = torch.randperm(len(images), device="cuda")
            for part in order.split(batch):
                chosen, run = steps[len(part)]
                chosen.copy_(part)
                sums += run().detach()
            sums.item()
            times.append((str(layout), time.perf_counter() - start_of_epoch))
    return min(median([spent for name, spent in times if name == str(layout)][1:]) for layout in FORMATS.values())


FIGURES: dict[str, Callable[[Bench], Rows]] = {
    "accuracy": Bench.accuracy,
    "lenet5": Bench.lenet5,
    "mnist-fast": Bench.mnist_fast,
    "convolutions": Bench.convolutions,
    "resnet18": Bench.resnet18,
    "memory-bound": Bench.memory_bound,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=FIGURES, default=list(FIGURES))
    parser.add_argument("--data", default="mnist", help="data set, or a folder with the files of MNIST")
    parser.add_argument("--pairs", type=int, default=30, help="number of pairs, each timed A B B A")
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    if options.pairs < 1:
        parser.error(f"--pairs {options.pairs}: use at least 1")
    facts = cuda_facts()
    if not facts["available"]:
        sys.exit(f'device "cuda" cannot run: {facts["reason"]}')
    if facts["simulated"] and not options.smoke:
        sys.exit("times in the simulator mean nothing: add --smoke, or unset NUMBA_ENABLE_CUDASIM")
    if facts["simulated"]:
        sys.path.insert(0, str(TESTS / "cuda"))
        import simulator

        simulator.install()  # many times faster than Numba's
    peers = find_peers("cuda")
    peers.configure("fp32")
    bench = Bench(peers, QUICK if options.smoke else Effort(options.pairs), options.data, options.smoke)
    names = ", ".join(gpu["name"] for gpu in facts["gpus"]) or "Numba's simulator: times mean nothing"
    packages = ", ".join(f"{name} {version}" for name, version in (versions() | peers.versions).items())
    print(f"{names}; driver of CUDA {facts['driver']}; {packages}.", *peers.notes, sep="\n")
    print(f"{bench.peaks.gflops:,.0f} GFLOP/s of multiply-adds, {bench.peaks.bandwidth:,.0f} GB/s of a triad, ", end="")
    print(f"{bench.copy:,.0f} GB/s of a copy.\n\n| figure | measured | lower bound | target | |\n|---|---|---|---|---|")
    missed = False
    for name in options.only:
        try:
            for row in FIGURES[name](bench):
                print(row, flush=True)
                missed |= row.reached is False
        except nc.NumbacnnError as error:
            print(Row(name, f"left out: {error}"), flush=True)
            missed = True
    return int(missed and not options.smoke)


if __name__ == "__main__":
    sys.exit(main())
