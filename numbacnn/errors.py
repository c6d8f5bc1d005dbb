"""Every error that numbacnn raises on purpose: one clear line that names what is wrong and what to do."""


class NumbacnnError(Exception):
    """Base of every error raised on purpose."""


class ArgumentError(NumbacnnError, ValueError):
    """An argument is wrong: a name that is not known, a number out of range, arrays that do not fit."""


class GeometryError(ArgumentError):
    """Shapes that cannot work together: a window larger than its input, channels that differ."""


class GradientError(NumbacnnError):
    """A layer's backward does not compute the gradient of its forward."""


class DeviceMemoryError(NumbacnnError):
    """A GPU has no room for an array."""


class DataError(NumbacnnError):
    """A data set or an image file that cannot be used as it is."""


class ModelFileError(NumbacnnError):
    """A file that is not a numbacnn model, is damaged, or comes from a newer version."""
