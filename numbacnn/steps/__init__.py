"""Training steps: driven by the host, on any device, or by the GPU itself."""

from numbacnn.steps.batch import Learner, LossOfOutputs, TrainingBatch
from numbacnn.steps.device import DeviceSteps, choose_steps
from numbacnn.steps.host import HostSteps
from numbacnn.steps.update import Update

__all__ = ["DeviceSteps", "HostSteps", "Learner", "LossOfOutputs", "TrainingBatch", "Update", "choose_steps"]
