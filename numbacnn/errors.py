"""The errors that numbacnn raises on purpose: one clear line that says what is wrong and what to do."""

import re

_CONTROLS = r"\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff"
_ALL_CONTROLS = re.compile(f"[{_CONTROLS}]")
_ENDS_OF_LINES = re.compile(r"\s*\n\s*")
_ALL_BUT_LINES = re.compile(f"(?!\n)[{_CONTROLS}]")


def escaped(text: object, keep_lines: bool = False) -> str:
    r"""Return text that may come from a file as it may be shown anywhere, with controls as \x1b.

    Controls are those of terminals and of writing direction, ends of lines (unless ``keep_lines``), and what XML does
    not allow. Whatever shows names from files uses this function.
    """
    pattern = _ALL_BUT_LINES if keep_lines else _ALL_CONTROLS
    return pattern.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


def one_line(message: object) -> str:
    """Return the message of an error, escaped, in one line: it may quote an array, or the error of another library."""
    return escaped(_ENDS_OF_LINES.sub(" ", str(message)))


class NumbacnnError(Exception):
    """Base class of every error raised on purpose. Its message may name what a file names, so controls are escaped."""

    def __str__(self) -> str:
        return one_line(super().__str__())


class ArgumentError(NumbacnnError, ValueError):
    """An argument is wrong: an unknown name, a number out of range, arrays that do not fit."""


class GeometryError(ArgumentError):
    """Shapes do not fit each other: a window is larger than its input, or numbers of channels differ."""


class GradientError(NumbacnnError):
    """A layer's backward does not compute the gradient of its forward."""


class DeviceMemoryError(NumbacnnError):
    """A GPU, or the memory of the CPU, has no room for an array."""


class DivergedError(NumbacnnError):
    """A training has computed NaN or infinity.

    Attributes:
        problem: the message without its advice, which names arguments of ``fit``.
        skippable: whether the training could continue without the batch.
    """

    def __init__(self, problem: str, skippable: bool = False) -> None:
        skip = ', or skip such batches with on_nan="skip"' if skippable else ""
        super().__init__(f"{problem}; lower the learning rate, or set the optimizer's clip_norm{skip}")
        self.problem, self.skippable = problem, skippable


class DataError(NumbacnnError):
    """A data set or an image file cannot be used as it is."""


class ModelFileError(NumbacnnError):
    """A file is not a numbacnn model, is damaged, or was written by a newer version."""
