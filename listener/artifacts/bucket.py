"""From names of objects to files of a folder. An object's name is any text; a file's is not."""

from __future__ import annotations

import hashlib
import posixpath
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from listener.errors import ConfigError, one_line

#: Bytes in the name of a file or folder, on every usual file system.
_LONGEST = 255


@dataclass(frozen=True, slots=True)
class Bucket:
    """A folder in Cloud Storage: the objects whose names begin with `prefix`.

    Attributes:
        name: of the bucket.
        prefix: '' for the whole bucket, else it ends in '/'.
    """

    name: str
    prefix: str

    def __str__(self) -> str:
        return f"gs://{self.name}/{self.prefix}"

    @property
    def key(self) -> str:
        """A file name that stands for this folder and for no other."""
        readable = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{self.name}-{self.prefix}").strip("-.")
        return f"{readable[:60]}-{hashlib.sha256(str(self).encode()).hexdigest()[:12]}"


def parse(uri: str) -> Bucket:
    """gs://BUCKET/PREFIX, with or without a slash at its end, as `settings` has checked it."""
    name, _, prefix = uri.removeprefix("gs://").partition("/")
    prefix = prefix.rstrip("/")
    return Bucket(name, f"{prefix}/" if prefix else "")


@dataclass(frozen=True, slots=True)
class Item:
    """One object as it was listed.

    Attributes:
        name: the object's, in its bucket.
        size: bytes as stored.
        generation: which of its versions; an object that is overwritten gets another one.
        packed: it is stored compressed with gzip and becomes an unpacked file, of another size.
        crc32c: checksum of the bytes as stored; None only where a listing has none, and then the size has to do.
    """

    name: str
    size: int
    generation: int
    packed: bool = False
    crc32c: int | None = None


@dataclass(frozen=True, slots=True)
class Contents:
    """What is to be fetched.

    Attributes:
        files: objects by the path of the file that each becomes, relative and with '/'.
        folders: paths of folders that have to be there beside those of the files.
    """

    files: Mapping[str, Item]
    folders: tuple[str, ...]

    @property
    def nbytes(self) -> int:
        return sum(item.size for item in self.files.values())

    @property
    def digest(self) -> str:
        """Another one as soon as a file is added, removed, renamed or overwritten."""
        lines = [f"{path}\0{item.generation}\0{item.size}\n" for path, item in sorted(self.files.items())]
        lines += [f"{path}/\n" for path in self.folders]
        return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


def contents(bucket: Bucket, items: Iterable[Item]) -> Contents:
    """Decides what becomes of each object.

    Names that end in '/' are placeholders: consoles make them for folders, and nothing is fetched for them. Triton
    wants an empty version folder for an ensemble, so such a folder is made where its model has files.

    Raises:
        ConfigError: there is nothing, or an object's name cannot be that of a file below the folder.
    """
    files, placeholders = dict[str, Item](), set[str]()
    for item in items:
        path = item.name.removeprefix(bucket.prefix)
        if path.endswith("/") or not path:
            placeholders.add(path.rstrip("/"))
        else:
            files[_checked(path, bucket, item.name)] = item
    if not files:
        raise ConfigError(f"{bucket}: nothing lies there; check bucket and prefix, and that the upload is complete")
    models = {path.partition("/")[0] for path in files if "/" in path}
    kept = [path for path in sorted(placeholders) if "/" in path and path.partition("/")[0] in models]
    folders = tuple(_checked(path, bucket, f"{path}/") for path in kept)
    _refuse_files_as_folders(files, folders, bucket)
    return Contents(files, folders)


def _checked(path: str, bucket: Bucket, name: str) -> str:
    """The path, if it stays below the folder and can be written on every usual file system.

    Raises:
        ConfigError: it is not.
    """
    reason = None
    if "\\" in path or not path.isprintable():
        reason = "holds a backslash or a control character"
    elif any(part in ("", ".", "..") for part in path.split("/")):
        reason = "would lie outside of the folder, or has an empty part"
    elif any(len(part.encode("utf-8", "surrogatepass")) > _LONGEST for part in path.split("/")):
        reason = f"has a part of more than {_LONGEST} bytes"
    if reason:
        raise ConfigError(
            f"{bucket}: the object {one_line(repr(name[:200]))} {reason} and cannot become a file; rename or remove it"
        )
    return path


def refuse_twins(found: Contents, bucket: Bucket) -> None:
    """To be called where the file system does not tell names apart that differ only in case, or in how letters with
    accents are written.

    Raises:
        ConfigError: two paths, or two folders on the way, would be one.
    """
    seen = dict[str, str]()
    for path in [*found.files, *found.folders]:
        parts = path.split("/")
        for end in range(1, len(parts) + 1):
            name = "/".join(parts[:end])
            other = seen.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
            if other != name:
                raise ConfigError(
                    f"{bucket}: {other!r} and {name!r} differ only in case, which the file system here does not "
                    "tell apart; rename one, or name another folder in LISTENER_ARTIFACTS"
                )


def _refuse_files_as_folders(files: Mapping[str, Item], folders: Iterable[str], bucket: Bucket) -> None:
    """`a` and `a/b` may both be objects, but not both files."""
    for path in [*files, *(f"{folder}/" for folder in folders)]:
        folder = posixpath.dirname(path)
        while folder:
            if folder in files:
                raise ConfigError(
                    f"{bucket}: the object {folder!r} would have to be a file and, for {path!r}, a folder; remove one"
                )
            folder = posixpath.dirname(folder)
