"""Compare a training step with PyTorch's, paired in one process: forward, loss, backward and SGD with momentum.

    python benchmarks/training_step.py [--batch 64] [--threads 2] [--pairs 40] [--at-least lenet5=4 simple_cnn=1.5]

PyTorch runs in its faster memory format. With ``--at-least`` the exit status is 1 if the lower end of the 95 % interval
is below a given ratio. ``numbacnn bench train`` measures any model in more detail.
"""

import argparse
import sys

import numbacnn as nc
from numbacnn.bench.measure import measure_model
from numbacnn.bench.peers import find_peers
from numbacnn.bench.timing import Effort

MODELS = ("lenet5", "simple_cnn")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[64])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--at-least", nargs="*", default=[], metavar="MODEL=RATIO")
    options = parser.parse_args()
    peers = find_peers()
    if "PyTorch" not in peers.found:
        sys.exit("\n".join(peers.notes))
    nc.set_num_threads(options.threads)
    peers.configure()
    minimum = {name: float(figure) for name, figure in (item.split("=") for item in options.at_least)}
    missed = False
    print(f"training step, {options.threads} threads, PyTorch {peers.versions['PyTorch']} in its faster memory format")
    for name in MODELS:
        for batch in options.batch:
            result = measure_model(nc.models.make(name), batch, True, Effort(options.pairs), peers)
            ratio = result.measurement.peers["PyTorch"].ratio
            below = ratio.low < minimum.get(name, 0)
            missed |= below
            print(f"{name:12s} batch {batch:4d}: {ratio}{'  BELOW ' + str(minimum[name]) if below else ''}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
