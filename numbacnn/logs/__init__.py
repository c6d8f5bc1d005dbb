"""Logs of trainings for other tools, as callbacks: event files for TensorBoard, and modules such as wandb.

Its files are complete at the end of the block::

    with nc.logs.TensorBoard("logs/first") as log:
        model.fit(train, validation=held_out, callbacks=[log])
        log.results(model, test)
"""

from collections.abc import Mapping
from pathlib import Path

from numbacnn._checks.names import checks_call
from numbacnn.logs.log import Log
from numbacnn.logs.tensorboard import TensorBoard
from numbacnn.logs.tracker import Tracker

__all__ = ["LOGS", "Log", "TensorBoard", "Tracker", "log_of_run"]

LOGS = ("tensorboard", "wandb", "trackio", "swanlab")
"""The names that ``log_of_run`` takes."""


@checks_call
def log_of_run(name: str, folder: Path, settings: Mapping[str, object]) -> Log:
    """Return the log of a run: in its subfolder ``tensorboard``, or a tracker's run of the same name."""
    if name == "tensorboard":
        return TensorBoard(folder / name, hyperparameters=settings, resume=True)
    return Tracker(name, name=folder.name, hyperparameters=settings)
