"""Files of a named data set: downloaded once from its mirrors into a folder, and verified by their checksums."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias
from urllib.parse import urlsplit

from numbacnn.data.files import replacing
from numbacnn.errors import DataError

Progress: TypeAlias = Callable[[str, int, int | None], None]
"""Called with a file's name, the bytes received so far, and the total or None if the server does not send it."""

State: TypeAlias = Literal["ok", "missing", "damaged"]

_TIMEOUT = 10.0  # seconds, for a connection and for each read
_MAX_BYTES = 256 << 20
_CHUNK = 1 << 16


@dataclass(frozen=True)
class NamedSet:
    """A data set known by name.

    Attributes:
        name: its name, also that of its folder in the cache.
        checksums: name of each file → MD5 of its content in hexadecimal, as published.
        mirrors: URL prefixes of the files, in the order in which they are tried.
        classes: class names.
        strokes: as in ``Dataset``.
    """

    name: str
    checksums: Mapping[str, str]
    mirrors: tuple[str, ...]
    classes: tuple[str, ...]
    strokes: bool = False


def file_states(named: NamedSet, folder: Path) -> list[tuple[str, State]]:
    """Return name and state of each file of a set in a folder."""
    return [(name, _state(folder / name, checksum)) for name, checksum in named.checksums.items()]


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


def _state(path: Path, checksum: str) -> State:
    try:
        with path.open("rb") as file:
            return "ok" if hashlib.file_digest(file, _md5).hexdigest() == checksum else "damaged"
    except FileNotFoundError:
        return "missing"
    except OSError:
        return "damaged"


def _fetch_file(named: NamedSet, path: Path, progress: Progress | None) -> None:
    from http.client import HTTPException

    failures = []
    for mirror in named.mirrors:
        try:
            with replacing(path) as file:
                checksum = _transfer(mirror + path.name, file, path.name, progress)
                if checksum != named.checksums[path.name]:
                    raise DataError(f"md5 is {checksum} instead of {named.checksums[path.name]}")
            return
        except (OSError, HTTPException, DataError) as error:
            failures.append(f"{urlsplit(mirror).netloc}: {getattr(error, 'reason', error)}")
    raise DataError(
        f"{named.name}: {path.name} could not be downloaded ({'; '.join(failures) or 'it has no mirror'}); "
        f"put {', '.join(named.checksums)} into a folder and pass it: numbacnn train --data DIR or nc.data.load('DIR')"
    )


def _transfer(url: str, file: BinaryIO, name: str, progress: Progress | None) -> str:
    """Copy the content of a URL to a file, and return its MD5. Raises DataError if it is too short or too long."""
    from urllib.error import HTTPError
    from urllib.request import urlopen

    digest, received = _md5(), 0
    try:
        response = urlopen(url, timeout=_TIMEOUT)
    except HTTPError as error:
        with error:
            raise DataError(f"HTTP {error.code} {error.reason}") from None
    with response:
        length = response.headers.get("Content-Length")
        total = int(length) if length and length.isdecimal() else None
        while chunk := response.read(_CHUNK):
            received += len(chunk)
            if received > _MAX_BYTES:
                raise DataError(f"sends more than {_MAX_BYTES >> 20} MB")
            digest.update(chunk)
            file.write(chunk)
            if progress:
                progress(name, received, total)
    if total is not None and received != total:
        raise DataError(f"sent {received:,} of {total:,} bytes")
    return digest.hexdigest()


def _md5() -> "hashlib._Hash":
    return hashlib.md5(usedforsecurity=False)  # as published: it detects damage, not tampering
