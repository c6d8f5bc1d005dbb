"""``numbacnn bench train --shards`` and ``--mpi``: what shards cost, and the communication of several ranks."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import click

import numbacnn
from numbacnn.bench.ranks import measure_ranks, paired_shards
from numbacnn.distributed import DEFAULT_SHARDS, Group
from numbacnn.model import Model

from . import ranks, render, shared


class Options(NamedTuple):
    """The options of a benchmark that are used here."""

    steps: int
    threads: int | None
    as_json: bool


def measure(options: Options, make: Callable[[], Model], batches: Sequence[int], shards: int | None, mpi: bool) -> None:
    """Measure each batch size and print the figures; on several ranks, rank 0 prints them."""
    steps, count = options.steps, shards or DEFAULT_SHARDS
    group = ranks.connected(click.get_current_context()) if mpi else Group()
    with shared.engine(ranks.threads(group, options.threads), quiet=not group.is_first):
        model, threads = make(), numbacnn.get_num_threads()
        found: list[dict[str, Any]] = []
        for batch in batches:
            if mpi:
                times = measure_ranks(model, batch, count, group, threads, steps)
                found.append(times.figures() | {"gradient_bytes": 4 * model.store.size})
            else:
                found.append({"batch": batch, "shards": count} | paired_shards(model, batch, count, steps))
    if options.as_json:
        render.as_json(found[0] if len(found) == 1 else {"results": found})
        return
    names = list(found[0])
    render.table([names, *([_cell(row[name]) for name in names] for row in found)])


def _cell(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"
