"""Networks that train, predict and are saved: ``Model``, ``Sequential``, and ``load``, which reads their files."""

from numbacnn.model.loading import READERS, load
from numbacnn.model.model import Model
from numbacnn.model.sequential import Sequential

__all__ = ["READERS", "Model", "Sequential", "load"]
