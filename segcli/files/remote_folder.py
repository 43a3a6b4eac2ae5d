"""A folder behind a URL (s3://, gs://, memory://, …) that is worked on by way of a folder of this machine."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from segcli.errors import OutputError, UsageError
from segcli.files.writing import below

_URL = re.compile(r"([a-z][a-z0-9+.-]+):/{1,2}(?!/)(.+)", re.IGNORECASE)
_STORES = {"s3", "s3a", "gs", "gcs", "abfs", "az", "adl", "hf", "oss", "r2"}  # where an object is there whole or not
_AT_ONCE = 4  # files that are sent together
_WAITING = 64  # files that may wait to be sent
_OWN = ".segcli"  # how the names of locks and unfinished files begin


def fsspec() -> Any:
    """The package. Raises UsageError if it is not installed."""
    try:
        import fsspec
    except ImportError:
        raise UsageError("names with :// need fsspec: pip install 'segcli[remote]'") from None
    return fsspec


def line(error: BaseException) -> str:
    """An exception of a store, of which every one has its own, in one short line."""
    return (str(error).splitlines() or [type(error).__name__])[0][:160]


def url_of(path: Path) -> str | None:
    """The URL that a path was made from, which has lost a slash; None if it is one of this machine."""
    match = _URL.fullmatch(path.as_posix())
    root = "/" if match and match[1] == "file" else ""
    return f"{match[1].lower()}://{root}{match[2]}" if match else None


class RemoteFolder:
    """What is new or replaced in `local` is sent to the URL, and what has gone from it is removed there.

    What was at the URL before is in `local` too, as an empty file unless its content is asked for; so names can be
    compared without moving a byte. Each file appears whole or not at all.
    """

    def __init__(self, url: str, local: Path) -> None:
        """Raises UsageError for a URL of an unknown kind, OutputError for one that cannot be written to."""
        self.url, self.local = url.rstrip("/"), local
        if "::" in url:
            raise UsageError(f"{url}: results go to plain URLs such as s3://bucket/folder")
        opened = fsspec().core.url_to_fs
        try:
            self._system, self._root = opened(self.url)
            names = self._system.protocol
            self._is_store = bool(_STORES & ({names} if isinstance(names, str) else set(names)))
            probe = f"{self._root}/{_OWN}-probe-{os.getpid()}"
            self._make_folder(probe)
            self._system.pipe_file(probe, b"")
            self._system.rm_file(probe)
        except Exception as error:
            raise OutputError(f"{self.url}: cannot be written to ({line(error)}); choose another --out") from error
        self._known: dict[Path, int] = {}  # when each file that is the same there was changed here
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="segcli-send")
        self._waiting: deque[Future[None]] = deque()

    def fetch(self, wanted: Callable[[str], bool]) -> None:
        """Make `local` what is at the URL; only files whose name is wanted have their content. Raises OutputError."""
        try:
            for remote in self._system.find(self._root) if self._system.exists(self._root) else ():
                name = remote[len(self._root) :].lstrip("/")
                path = below(self.local, self.local / name)
                path.parent.mkdir(parents=True, exist_ok=True)
                if wanted(name):
                    self._system.get_file(remote, str(path))
                else:
                    path.touch()
                self._known[path] = path.stat().st_mtime_ns
        except OutputError:
            raise
        except Exception as error:
            raise OutputError(f"{self.url}: cannot be listed ({line(error)})") from error

    def send(self, paths: Iterable[Path]) -> None:
        """Send files, and those in folders, while the work goes on; what is sent takes no room here any more.

        Raises OutputError for one that was given earlier and could not be sent.
        """
        for path in paths:
            for file in self._files(path) if path.is_dir() else [path]:
                self._waiting.append(self._pool.submit(self._put, file))
        while len(self._waiting) > _WAITING or (self._waiting and self._waiting[0].done()):
            self._waiting.popleft().result()

    def remove_gone(self) -> None:
        """Remove there what is here no longer. Raises OutputError."""
        for path in [path for path in self._known if not path.exists()]:
            del self._known[path]
            try:
                self._system.rm_file(self._remote(path))
            except FileNotFoundError:
                pass
            except Exception as error:
                raise OutputError(f"{self._shown(path)}: cannot be removed ({line(error)})") from error

    def finish(self) -> None:
        """Send everything that is left, and wait for it. Raises OutputError; then all that can be sent is sent."""
        self._wait()  # as what is being sent has no content here at the end of it
        new = [path for path in self._files(self.local) if self._known.get(path) != path.stat().st_mtime_ns]
        for notes in (False, True):  # that a shard is done, which must be true when it can be read
            self._waiting += [self._pool.submit(self._put, path) for path in new if path.name.startswith(".") == notes]
            if errors := self._wait():
                raise errors[0]
        self.remove_gone()

    def _wait(self) -> list[BaseException]:
        errors = [error for sent in self._waiting if (error := sent.exception())]
        self._waiting.clear()
        return errors

    def close(self) -> None:
        """Wait for what is being sent, and no more."""
        self._pool.shutdown(cancel_futures=True)

    def _files(self, folder: Path) -> list[Path]:
        return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(_OWN))

    def _put(self, path: Path) -> None:
        remote = self._remote(path)
        part = f"{remote.rpartition('/')[0]}/{_OWN}-{os.getpid()}-{path.name}.part"
        try:
            if self._is_store:
                self._system.put_file(str(path), remote)
            else:
                self._make_folder(remote)
                self._system.put_file(str(path), part)
                self._system.mv(part, remote)
        except Exception as error:
            if not self._is_store:
                with suppress(Exception):
                    self._system.rm_file(part)
            raise OutputError(
                f"{self._shown(path)}: cannot be written ({line(error)}); choose another --out"
            ) from error
        os.truncate(path, 0)
        self._known[path] = path.stat().st_mtime_ns

    def _make_folder(self, remote: str) -> None:
        if not self._is_store:  # which have no folders; to make one would be to make a bucket
            self._system.makedirs(remote.rpartition("/")[0], exist_ok=True)

    def _remote(self, path: Path) -> str:
        return f"{self._root}/{path.relative_to(self.local).as_posix()}"

    def _shown(self, path: Path) -> str:
        return f"{self.url}/{path.relative_to(self.local).as_posix()}"


@contextmanager
def staged(url: str) -> Iterator[RemoteFolder]:
    """A folder to work in, whose files are at the URL afterwards, also those of work that is interrupted.

    Raises what `RemoteFolder` raises.
    """
    local = Path(tempfile.mkdtemp(prefix="segcli-out-"))
    try:
        folder = RemoteFolder(url, local)
        try:
            yield folder
        finally:
            try:
                folder.finish()
            finally:
                folder.close()
    finally:
        shutil.rmtree(local, ignore_errors=True)
