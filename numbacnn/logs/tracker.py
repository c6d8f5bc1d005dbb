"""Logs by modules with ``init``, ``log`` and ``finish``: wandb, trackio, swanlab."""

import importlib
import inspect
import math
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from types import ModuleType

from numbacnn.errors import NumbacnnError
from numbacnn.logs.log import Log

NAMES = ("name", "experiment_name")  # of the argument of ``init`` that names a run, where there is one


class Tracker(Log):
    """A log by a module with functions ``init(project, config)``, ``log(numbers, step)`` and ``finish()``.

    ``module`` is the module or its name, such as "wandb", "trackio" or "swanlab", which is imported. ``name`` names the
    run if ``init`` has an argument for it. Numbers are logged by step, and ``epoch`` is one of them. A resumed training
    becomes a new run of the tracker, which begins with the next step.

    Raises NumbacnnError if the module is not installed or has no such functions.
    """

    def __init__(
        self,
        module: str | ModuleType,
        *,
        project: str = "numbacnn",
        name: str | None = None,
        hyperparameters: Mapping[str, object] | None = None,
        every: int = 1,
    ) -> None:
        super().__init__(every)
        if isinstance(module, str):
            try:
                module = importlib.import_module(module)
            except ImportError:
                raise NumbacnnError(f"logging to {module} needs a package: pip install {module}") from None
        missing = [function for function in ("init", "log", "finish") if not callable(getattr(module, function, None))]
        if missing:
            raise NumbacnnError(f"{module.__name__} has no function {' or '.join(missing)}; a tracker has these")
        self.module = module
        self.options: dict[str, object] = {"project": project, "config": dict(hyperparameters or {})}
        names = [argument for argument in NAMES if argument in inspect.signature(module.init).parameters]
        if name is not None and names:
            self.options[names[0]] = name

    def start(self, epoch: float, step: float) -> tuple[float, float]:
        """Initialize the tracker."""
        with redirect_stdout(sys.stderr):
            self.module.init(**self.options)
        return (0 if math.isinf(epoch) else epoch), (0 if math.isinf(step) else step)

    def write(self, numbers: Mapping[str, float], epoch: int, step: int) -> None:
        """Log numbers."""
        self.module.log({"epoch": epoch, **numbers}, step=step)

    def close(self) -> None:
        """Finish the tracker's run, if it has begun."""
        if self._logged is not None:
            with redirect_stdout(sys.stderr):
                self.module.finish()
