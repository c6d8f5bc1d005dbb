"""The numbers that evaluations and losses return, which answer what users of other frameworks expect of them."""

import sys
from collections.abc import Iterator

from numbacnn._checks import did_you_mean, shown
from numbacnn._checks.names import AnswersAttributes, is_unpacked
from numbacnn.errors import ArgumentError, one_line


class UnknownScoreError(ArgumentError, KeyError):
    """An evaluation has no score of a name."""

    def __str__(self) -> str:
        return one_line(self.args[0])  # a KeyError shows its message in quotes


class Scores(AnswersAttributes, dict[str, float]):
    """Scores by name. ``loss, accuracy = scores`` assigns the values, in the order of the names."""

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names; over the values if a statement unpacks them, as Keras' users do."""
        if is_unpacked(sys._getframe(1)):
            return iter(self.values())  # type: ignore[arg-type]  # numbers, where a dict has names
        return super().__iter__()

    def __missing__(self, name: object) -> float:
        hint = did_you_mean(name, self) if isinstance(name, str) else ""
        raise UnknownScoreError(f"no score {shown(name)}; {hint}the scores are {', '.join(map(repr, self))}")
