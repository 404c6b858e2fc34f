"""A new build beside the installed file: unpacked, tried, and put in its place."""

import asyncio
import contextlib
import errno
import filecmp
import gzip
import os
import re
import shutil
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

from engines.agent import installed, proof
from engines.agent.release import CHUNK, Release, Unfit, fetch

LARGEST_PROGRAM = 1024**3  # bytes, unpacked
MOST_SAID = 64 * 1024  # bytes that a build on trial may say
TRIAL_SECONDS = 30.0
FOLDER = re.compile(r"\..+\.update-(\d+)")  # of one process; what a crash left is removed by the next update
# What a person can do about an error of the disk.
ADVICE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "make room there"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "the engine's user must be allowed to write there"),
}


class Replacement:
    """A checked and tried build that waits in a folder beside `file` to take its place."""

    def __init__(self, file: Path, folder: Path, version: str) -> None:
        self.version = version
        self.previous = proof.previous(file)
        self._file = file
        self._folder = folder
        self._swapped = False

    @property
    def program(self) -> Path:
        return self._folder / self._file.name

    def swap(self) -> None:
        """Put the build in place in one step; what was there stays as `previous`. Raises Unfit, nothing changed then.

        Where another engine of the same file has done so already, `previous` is left as it is.
        """
        try:
            if not filecmp.cmp(self.program, self._file, shallow=False):
                self.previous.unlink(missing_ok=True)
                _copy(self._file, self.previous)
                proof.doubt(self._file, self.version)
                self.program.replace(self._file)
                self._swapped = True
                _sync(self._file.parent)
        except OSError as error:
            self.undo()
            raise Unfit(f"{self._file} cannot be replaced: {_words(error)}") from error
        self.remove()

    def undo(self) -> None:
        """Put the old file back, if it was replaced. Raises OSError when it cannot be."""
        if self._swapped:
            self.previous.replace(self._file)
            self._swapped = False
            proof.believe(self._file)

    def remove(self) -> None:
        """Remove the build where it still waits."""
        shutil.rmtree(self._folder, ignore_errors=True)


async def prepare(release: Release, flags: Sequence[str] | None) -> Replacement:
    """Fetch, check, unpack and try the release's build for this host.

    On trial it must print its version, and accept `config` with `flags` (not tried when None). Raises Unfit.
    Whatever goes wrong, also when cancelled, nothing is left behind.
    """
    file = installed.FILE
    if file is None:
        raise Unfit("this engine runs from a source tree: update that, or install a released file")
    url, sha256 = release.archive()
    folder = file.with_name(f".{file.name}.update-{os.getpid()}")
    replacement = Replacement(file, folder, release.version)
    try:
        _tidy(file.parent)
        folder.mkdir(mode=0o700)
        await _unpacked(url, sha256, replacement.program, file.stat().st_mode)
        await _try(replacement.program, release.version, flags)
    except BaseException as error:
        replacement.remove()
        if isinstance(error, OSError):
            raise Unfit(f"{release.version} cannot be stored in {file.parent}: {_words(error)}") from error
        raise
    return replacement


async def _unpacked(url: str, sha256: str, program: Path, mode: int) -> None:
    archive = program.with_name("archive")
    with archive.open("wb") as into:
        await fetch(url, sha256, into)
    name = urlsplit(url).path.rpartition("/")[2].removesuffix(".tar.gz")
    work = asyncio.ensure_future(asyncio.to_thread(_unpack, archive, name, program, mode))
    try:
        await asyncio.shield(work)
    finally:
        await asyncio.wait([work])  # when cancelled too: nobody must write where all is about to be removed
    archive.unlink()


def _unpack(archive: Path, name: str, program: Path, mode: int) -> None:
    """Write the member `name` to `program`, and nothing else, whatever the archive holds. It lies on disk for good."""
    try:
        with gzip.open(archive) as packed, tarfile.open(fileobj=cast(Any, _Bounded(packed)), mode="r|") as members:
            member = next((one for one in members if one.name == name and one.isreg() and not one.issparse()), None)
            source = members.extractfile(member) if member else None
            if source is None:
                raise Unfit(f"the archive does not hold a file {name}")
            with program.open("wb") as target:
                shutil.copyfileobj(source, target, CHUNK)
                target.flush()
                os.fsync(target.fileno())
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise Unfit(f"the archive cannot be unpacked: {error}") from error
    program.chmod(mode | 0o700)
    _sync(program.parent)


class _Bounded:
    """A stream that ends in Unfit before a small archive has filled the host."""

    def __init__(self, source: BinaryIO | gzip.GzipFile) -> None:
        self._source = source
        self._left = LARGEST_PROGRAM

    def read(self, size: int) -> bytes:
        chunk = self._source.read(size)
        self._left -= len(chunk)
        if self._left < 0:
            raise Unfit(f"the archive unpacks to more than {LARGEST_PROGRAM} bytes")
        return chunk


async def _try(program: Path, version: str, flags: Sequence[str] | None) -> None:
    said = await _said(program, "version")
    if said != f"{version}\n":
        raise Unfit(f"the build of {version} says that it is {said.strip()[:100]!r}")
    if flags is not None:
        await _said(program, "config", *flags)


async def _said(program: Path, *words: str) -> str:
    """Run the build with `words` and return its stdout. Raises Unfit unless it ends with 0, soon."""
    pipe = asyncio.subprocess.PIPE
    command = (*installed.INTERPRETER, str(program), *words)
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with asyncio.timeout(TRIAL_SECONDS):
            said, complaint = await asyncio.gather(_bounded(process.stdout), _bounded(process.stderr))
            code = await process.wait()
    except TimeoutError as error:
        raise Unfit(f"the new build did not end {words[0]!r} within {TRIAL_SECONDS:g} s") from error
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            await process.wait()
    if code:
        last = (complaint.strip() or said.strip()).rpartition("\n")[2][:300]
        raise Unfit(f"the new build does not start: {words[0]!r} ended with {code}{': ' + last if last else ''}")
    return said


async def _bounded(stream: asyncio.StreamReader) -> str:
    try:
        await stream.readexactly(MOST_SAID)
    except asyncio.IncompleteReadError as end:
        return end.partial.decode(errors="replace")
    raise Unfit(f"the new build says more than {MOST_SAID} bytes")


def _copy(old: Path, new: Path) -> None:
    try:
        os.link(old, new)
    except OSError:  # a file system without links
        shutil.copy2(old, new)


def _tidy(place: Path) -> None:
    """Remove what processes that are gone, or this one, left beside the file."""
    for path in place.iterdir():
        if (left := FOLDER.fullmatch(path.name)) and (int(left[1]) == os.getpid() or not proof.runs(int(left[1]))):
            shutil.rmtree(path, ignore_errors=True)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _words(error: OSError) -> str:
    advice = ADVICE.get(error.errno or 0)
    return (error.strerror or type(error).__name__) + (f": {advice}" if advice else "")
