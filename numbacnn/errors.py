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


class DataError(NumbacnnError):
    """A data set or an image file cannot be used as it is."""


class ModelFileError(NumbacnnError):
    """A file is not a numbacnn model, is damaged, or was written by a newer version."""
