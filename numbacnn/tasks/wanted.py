"""The metrics that ``fit`` and ``evaluate`` measure on request: by name, or functions of targets and predictions."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

from numbacnn import metrics
from numbacnn._checks import choose, shown
from numbacnn.errors import ArgumentError
from numbacnn.metrics import Metric, top_k_accuracy
from numbacnn.tasks.base import Task

Named: TypeAlias = str | Metric | Callable[[Any, Any], float]
Wanted: TypeAlias = Named | Sequence[Named] | Mapping[str, Callable[[Any, Any], float]] | None

TOP_K = re.compile(r"top[-_ ]?([1-9]\d{0,5})")


def wanted_metrics(given: Wanted, task: Task, classes: int) -> tuple[Metric, ...]:
    """Return the metrics of the argument ``metrics``, for a task with a number of classes.

    given: a name, such as "f1" or "top_5"; a function of targets and predictions; a ``Metric``; a list of these; or a
    mapping from names to functions.

    Raises:
        ArgumentError: a name is unknown, or two metrics have the same one.
    """
    if given is None:
        return ()
    if isinstance(given, Mapping):
        given = [Metric(str(name), function) for name, function in given.items()]
    if not isinstance(given, Metric | Iterable) and not callable(given):
        raise ArgumentError(f"metrics={shown(given)}: pass a name, a function of targets and predictions, or a list")
    listed = [given] if isinstance(given, str | Metric) or callable(given) else list(given)
    found = [_metric(each, task, classes) for each in listed]
    for name, count in Counter(metric.name for metric in found).items():
        function = next(metric.function for metric in found if metric.name == name)
        taken = name == "loss" or (name in task.measures and task.measures[name].function is not function)
        if count > 1 or taken:
            problem = f"{count} metrics are called {name}" if count > 1 else f"{name} is another measure"
            raise ArgumentError(f"{problem}; pass a function with a name of its own: metrics={{'name': function}}")
    return tuple(found)


def _metric(given: Named, task: Task, classes: int) -> Metric:
    if isinstance(given, Metric):
        return task.measures[given.name] if given.function is _public(given.name, task) else given
    if not isinstance(given, str):
        if not callable(given):
            raise ArgumentError(f"metrics: {shown(given)} is neither a name nor a function of targets and predictions")
        measures = task.measures.items()
        known = (metric for name, metric in measures if given in (metric.function, _public(name, task)))
        return next(known, None) or Metric(getattr(given, "__name__", type(given).__name__).strip("<>"), given)
    top_k = TOP_K.fullmatch(given) if "top_5" in task.measures else None
    if top_k is not None and int(top_k[1]) > classes:
        raise ArgumentError(f"metric {shown(given)}: the model has {classes} classes")
    if top_k is not None and given not in task.measures:
        return Metric(given, partial(top_k_accuracy, k=int(top_k[1])))
    return choose("metric", given, task.measures)


def _public(name: str, task: Task) -> Callable[..., Any] | None:
    """Return the function of ``numbacnn.metrics`` with the name of one of a task's measures; None if there is none."""
    return getattr(metrics, name, None) if name in task.measures else None
