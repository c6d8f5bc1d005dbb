"""Files of a named data set: downloaded once from its mirrors into a folder, and verified by their checksums."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias
from urllib.parse import urlsplit

from numbacnn._checks import brief
from numbacnn.data.files import remove_leftovers, replacing
from numbacnn.errors import DataError

Progress: TypeAlias = Callable[[str, int, int | None], None]
"""Called with a file's name, the bytes received so far, and the total or None if the server does not send it."""

Digests: TypeAlias = Mapping[str, "hashlib._Hash"]
State: TypeAlias = Literal["ok", "missing", "damaged"]

_TIMEOUT = 10.0  # seconds, for a connection and for each read
_MAX_BYTES = 256 << 20
_GRACE, _MIN_RATE = 60.0, 16 << 10  # seconds for the answer, and bytes a second after them
_STALE = 3600.0  # seconds, after which a file of another download is one of a process that is gone
_CHUNK = 1 << 16


@dataclass(frozen=True)
class NamedSet:
    """A data set known by name.

    Attributes:
        name: its name, also that of its folder in the cache.
        checksums: name of each file → MD5 of its content in hexadecimal, as published.
        sha256: the same with SHA-256, which nobody can forge, for the files that have one.
        mirrors: URL prefixes of the files, in the order in which they are tried.
        classes: class names.
        strokes: as in ``Dataset``.
    """

    name: str
    checksums: Mapping[str, str]
    mirrors: tuple[str, ...]
    classes: tuple[str, ...]
    strokes: bool = False
    sha256: Mapping[str, str] = field(default_factory=dict)

    def problem(self, name: str, digests: Digests) -> str | None:
        """Compare a file with its checksums; return how it differs, None if it does not."""
        for kind, known in (("md5", self.checksums), ("sha256", self.sha256)):
            found = digests[kind].hexdigest()
            if known.get(name, found) != found:
                return f"{kind} is {found} instead of {known[name]}"
        return None


def file_states(named: NamedSet, folder: Path) -> list[tuple[str, State]]:
    """Return name and state of each file of a set in a folder."""
    return [(name, _state(named, folder / name)) for name in named.checksums]


def fetch(named: NamedSet, folder: Path, progress: Progress | None = None) -> None:
    """Download the files of a set that are missing from a folder or damaged. Intact files cause no request.

    Raises:
        DataError: the folder cannot be created, or all mirrors failed for a file.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot be created ({error.strerror}); choose another cache folder") from error
    for name, state in file_states(named, folder):
        if state != "ok":
            _fetch_file(named, folder / name, progress)


def _state(named: NamedSet, path: Path) -> State:
    try:
        digests = _digests()
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                _update(digests, chunk)
        return "ok" if named.problem(path.name, digests) is None else "damaged"
    except FileNotFoundError:
        return "missing"
    except OSError:
        return "damaged"


def _fetch_file(named: NamedSet, path: Path, progress: Progress | None) -> None:
    from http.client import HTTPException

    failures = []
    remove_leftovers(path, age=_STALE)
    for mirror in named.mirrors:
        try:
            with replacing(path) as file:
                digests = _transfer(mirror + path.name, file, path.name, progress)
                if problem := named.problem(path.name, digests):
                    raise DataError(problem)
            return
        except (OSError, HTTPException, DataError, ValueError) as error:  # ValueError: of a redirect to a malformed URL
            failures.append(f"{urlsplit(mirror).netloc}: {brief(getattr(error, 'reason', error))}")
    raise DataError(
        f"{named.name}: {path.name} could not be downloaded ({'; '.join(failures) or 'it has no mirror'}); "
        f"put {', '.join(named.checksums)} into a folder and pass it: numbacnn train --data DIR or nc.data.load('DIR')"
    )


def _transfer(url: str, file: BinaryIO, name: str, progress: Progress | None) -> Digests:
    """Copy the content of a URL to a file, and return its digests.

    Raises DataError if it is too short, too long or too slow.
    """
    from http.client import HTTPException
    from urllib.error import HTTPError

    from numbacnn.data.watch import Watch

    received, digests = 0, _digests()
    with Watch(_GRACE, _MIN_RATE) as watch:
        try:
            with watch.open(url, _TIMEOUT) as response:
                length = response.headers.get("Content-Length")
                total = int(length) if length and length.isdecimal() else None
                while chunk := response.read(_CHUNK):
                    received += len(chunk)
                    watch.received = received
                    if received > _MAX_BYTES:
                        raise DataError(f"sends more than {_MAX_BYTES >> 20} MB")
                    _update(digests, chunk)
                    file.write(chunk)
                    if progress:
                        progress(name, received, total)
        except HTTPError as error:
            with error:
                raise DataError(f"HTTP {error.code} {error.reason}") from None
        except (OSError, HTTPException):
            if not watch.expired:
                raise
        if watch.expired:
            rate = f"slower than {_MIN_RATE >> 10} KiB/s"
            raise DataError(f"sent {received:,} bytes in {watch.seconds:.0f} s, {rate}")
    if total is not None and received != total:
        raise DataError(f"sent {received:,} of {total:,} bytes")
    return digests


def _digests() -> Digests:
    md5 = hashlib.md5(usedforsecurity=False)  # as published: it detects damage, not tampering
    return {"md5": md5, "sha256": hashlib.sha256()}


def _update(digests: Digests, chunk: bytes) -> None:
    for digest in digests.values():
        digest.update(chunk)
