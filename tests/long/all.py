"""Run all long tests one after another; exits with 1 if one failed. About two hours on an idle machine with two cores.

python tests/long/all.py
"""

import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

COMMANDS = [
    "bounds.py",
    "recovery.py --kills 300 --signals 100 --resumes 100",
    "fuzz.py --count 200000",
    "fuzz.py --count 20000 --draw hypothesis",
    "fuzz_guided.py --count 20000",
    "interrupts.py --count 6000",
    "cold_starts.py --count 20",
    "soak.py --minutes 30",
]


def main():
    failed = []
    for command in COMMANDS:
        print(f"== {command}", flush=True)
        if command.startswith("fuzz_guided") and not find_spec("atheris"):
            print("skipped: pip install atheris")
            continue
        start, (script, *options) = time.monotonic(), command.split()
        code = subprocess.run([sys.executable, Path(__file__).with_name(script), *options]).returncode
        print(f"   ended with {code} after {(time.monotonic() - start) / 60:.1f} min", flush=True)
        failed += [command] * (code != 0)
    print(f"failed: {', '.join(failed) or 'none'}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
