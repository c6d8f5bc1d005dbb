"""The errors that numbacnn raises on purpose: one clear line that says what is wrong and what to do."""


class NumbacnnError(Exception):
    """Base class of every error raised on purpose."""


class ArgumentError(NumbacnnError, ValueError):
    """An argument is wrong: an unknown name, a number out of range, arrays that do not fit."""


class GeometryError(ArgumentError):
    """Shapes do not fit each other: a window is larger than its input, or numbers of channels differ."""


class GradientError(NumbacnnError):
    """A layer's backward does not compute the gradient of its forward."""


class DeviceMemoryError(NumbacnnError):
    """A GPU has no room for an array."""


class DivergedError(NumbacnnError):
    """A training has computed NaN or infinity.

    Attributes:
        problem: the message without its advice, which names arguments of ``fit``.
        skippable: whether the training could continue without the batch.
    """

    def __init__(self, problem: str, skippable: bool = False) -> None:
        skip = ', or skip such batches with on_nan="skip"' if skippable else ""
        super().__init__(f"{problem}; lower the learning rate, or give the optimizer a clip_norm{skip}")
        self.problem, self.skippable = problem, skippable


class DataError(NumbacnnError):
    """A data set or an image file cannot be used as it is."""


class ModelFileError(NumbacnnError):
    """A file is not a numbacnn model, is damaged, or was written by a newer version."""
