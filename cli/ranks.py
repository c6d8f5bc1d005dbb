"""The ranks that mpiexec has started: which one prints, and how many threads each has."""

import os
import sys

import click

from numbacnn.distributed import Group, connect, launched_ranks, oversubscribed_hosts, threads_per_rank

from . import render, shared


def connected(ctx: click.Context) -> Group:
    """Return all ranks that mpiexec has started. Only rank 0 prints; an error on any rank ends the command on all."""
    if launched_ranks() == 1:
        return Group()
    group = connect()
    if isinstance(ctx.obj, shared.State):
        ctx.obj.group = group
    if not group.is_first:
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123  # until the process ends
    return group


def threads(group: Group, given: int | None) -> int | None:
    """Return the number of threads: that given, or for several ranks their share of the machine's cores.

    Notes machines on which all threads are more than the cores.
    """
    if group.size == 1:
        return given
    count = given or threads_per_rank(group)
    render.notes([*oversubscribed_hosts(group, count)])
    return count
