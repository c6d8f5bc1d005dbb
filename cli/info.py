"""``numbacnn info``."""

import sys
from importlib.util import find_spec
from typing import Any

import click

import numbacnn
from numbacnn.engine.device import cuda_facts
from numbacnn.engine.locks import thread_limit
from numbacnn.runs.provenance import processor, versions

from . import render, shared


@click.command("info")
@click.option("--clear-cache", is_flag=True, help="Delete the compiled kernels first.")
@shared.json
@shared.debug
def command(clear_cache: bool, as_json: bool) -> None:
    """Show versions, processor, threads, kernel cache and CUDA."""
    from numbacnn.kernels import disk_cache

    cleared = disk_cache.cache_size() if clear_cache else None
    if clear_cache:
        disk_cache.clear_cache()
    facts = {
        "versions": versions(),
        "processor": processor(),
        "threads": _threads(),
        "cache": {"folder": str(disk_cache.cache_root()), "bytes": disk_cache.cache_size()},
        "cuda": cuda_facts(),
    }
    if cleared is not None:
        facts["cache"]["cleared_bytes"] = cleared
    if as_json:
        render.as_json(facts)
    else:
        render.table(_rows(facts) + _cuda_rows(facts["cuda"]))


def _threads() -> dict[str, Any]:
    limit = thread_limit()
    from numbacnn.kernels.jit import start_threads
    from numbacnn.kernels.threads import layer as layer_of_kernels

    start_threads()  # Numba's threading layer has no name before
    layer = layer_of_kernels()
    return {
        "layer": layer,
        "advice": _advice() if layer == "workqueue" else None,
        "count": numbacnn.get_num_threads(),
        "limit": limit,
    }


def _advice() -> str:
    """Return which faster layers can be installed: those that Numba's wheel for this platform was built with."""
    openmp = {"linux": "apt install libgomp1", "darwin": "brew install libomp"}.get(sys.platform)
    choices = ["TBB (pip install tbb)"] if find_spec("numba.np.ufunc.tbbpool") else []
    if openmp and find_spec("numba.np.ufunc.omppool"):
        choices.append(f"OpenMP ({openmp})")
    return "Numba's basic layer" + (f"; install {' or '.join(choices)} for a faster one" if choices else "")


def _rows(facts: dict[str, dict[str, Any]]) -> list[tuple[str, str]]:
    processor, threads, cache = facts["processor"], facts["threads"], facts["cache"]
    fma = "with" if processor["fma"] else "without"
    rows = [
        *facts["versions"].items(),
        ("processor", f"{processor['name']}, {processor['instruction_set']}"),
        ("vectors", f"{processor['vector_bits']} bits, {processor['vector_registers']} registers, {fma} fma"),
        ("features", " ".join(processor["features"])),
        ("threading layer", threads["layer"] + (f": {threads['advice']}" if threads["advice"] else "")),
        ("threads", f"{threads['count']} of {threads['limit']}"),
        ("kernel cache", f"{cache['folder']}, {render.size(cache['bytes'])}"),
    ]
    if "cleared_bytes" in cache:
        rows.append(("", f"{render.size(cache['cleared_bytes'])} cleared"))
    return rows


def _cuda_rows(cuda: dict[str, Any]) -> list[tuple[str, str]]:
    if cuda["simulated"]:
        return [("cuda", "simulated (NUMBA_ENABLE_CUDASIM): kernels run in Python, for tests")]
    rows = [("cuda", cuda["reason"] or "available")]
    if cuda["driver"]:
        rows.append(("cuda driver", f"CUDA {cuda['driver']}; packages are for CUDA {cuda['toolkit']}"))
    for gpu in cuda["gpus"]:
        capability = ".".join(map(str, gpu["capability"]))
        memory = f"{render.size(gpu['free'])} of {render.size(gpu['memory'])} free"
        rows.append(("gpu", f"{gpu['name']}, compute capability {capability}, {memory}"))
    return rows
