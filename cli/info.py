"""``numbacnn info``."""

import sys
from typing import Any

import click

import numbacnn
from numbacnn.engine.device import cuda_facts
from numbacnn.runs.provenance import processor, versions

from . import render
from .options import debug_option, json_option


@click.command("info")
@click.option("--clear-cache", is_flag=True, help="Delete the compiled kernels first.")
@json_option
@debug_option
def command(clear_cache: bool, as_json: bool) -> None:
    """Show versions, processor, threads, cache, and what there is of CUDA."""
    from numbacnn.kernels import jit

    cleared = jit.cache_size() if clear_cache else None
    if clear_cache:
        jit.clear_cache()
    facts = {
        "versions": versions(),
        "processor": processor(),
        "threads": _threads(),
        "cache": {"folder": str(jit.cache_root()), "bytes": jit.cache_size()},
        "cuda": cuda_facts(),
    }
    if cleared is not None:
        facts["cache"]["cleared_bytes"] = cleared
    if as_json:
        render.as_json(facts)
    else:
        render.facts(facts)


def _threads() -> dict[str, Any]:
    from numba import config, get_num_threads
    from numba.np.ufunc import threading_layer

    get_num_threads()  # starts the threading layer, so that its name is known
    layer = threading_layer()
    return {
        "layer": layer,
        "advice": _advice() if layer == "workqueue" else None,
        "count": numbacnn.get_num_threads(),
        "limit": vars(config)["NUMBA_NUM_THREADS"],
    }


def _advice() -> str:
    openmp = {"linux": "apt install libgomp1", "darwin": "brew install libomp"}.get(sys.platform)
    choices = "TBB (pip install tbb)" + (f" or OpenMP ({openmp})" if openmp else "")
    return f"Numba's basic layer; {choices} gives a faster one"
