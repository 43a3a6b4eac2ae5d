"""One file from the Hugging Face Hub into its cache, as far as a flaky network allows.

huggingface_hub does the transfer, its retries and resumptions, the cache and the credentials (HF_HOME, HF_ENDPOINT,
HF_TOKEN, HF_HUB_OFFLINE). Ours are the guards (`hub_guard`), the checksum of what arrived, one more attempt where it
was damaged, and plain errors.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Any

from segcli.errors import WeightsUnavailable
from segcli.weights.hub_guard import RefusedResponse, Stalled, TooLong, guarded

# progress(file name, its size in bytes if known) is entered while a file comes in and gives the function to call with
# every number of bytes that arrived (negative when a server could not resume and the file starts again).
Progress = Callable[[str, int | None], AbstractContextManager[Callable[[int], None]]]

ATTEMPTS = 3  # at a transfer that ends damaged or with a server's error; interruptions are huggingface_hub's

_HTTP_LIBRARIES = {"httpx", "httpx2", "httpcore", "httpcore2", "h11"}


class Unreachable(WeightsUnavailable):
    """The Hub gave no usable answer: no network, offline mode, or failures that outlasted every attempt."""


class _Damaged(Exception):
    """The downloaded file is not what the Hub announced."""


@dataclass(frozen=True)
class Failure:
    """Why an attempt failed."""

    reason: str
    transient: bool = False  # worth another attempt
    answered: bool = True  # some server did speak to us
    damaged: bool = False  # it sent something else than it announced
    unreachable: bool = False  # no attempt will help, but what is cached still does


def fetch(repo: str, name: str, revision: str, progress: Progress | None = None) -> Path | None:
    """The file's path in the cache after downloading it, or None where the repository has no such file.

    Raises Unreachable, or WeightsUnavailable for what trying again cannot change (no access, no such repository).
    """
    start_afresh = False
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with quiet_library(), guarded() as limits:
                facts = _facts(repo, name, revision)
                limits.size = facts.size
                return _transfer(repo, name, revision, facts, progress, start_afresh)
        except Exception as error:
            if _is_missing_file(error):
                return None
            failure = explain(error, repo, revision)
            if failure is None:
                raise
            if failure.transient and failure.answered and attempt < ATTEMPTS:
                start_afresh |= failure.damaged
                sleep(attempt)
            elif failure.transient or failure.unreachable:
                raise Unreachable(f"{failure.reason} ({name})") from error
            else:
                raise WeightsUnavailable(failure.reason) from error
    raise AssertionError("the last attempt returns or raises")


def _facts(repo: str, name: str, revision: str) -> Any:
    """What the Hub says of a file. A server that answers with an error gets time; where nothing answers there is most
    likely no network, and nobody should wait long to be told."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(repo, name, revision=revision)
    try:
        return get_hf_file_metadata(url)
    except Exception as error:
        failure = None if _is_missing_file(error) else explain(error, repo, revision)
        if failure is None or not failure.transient:
            raise
        if failure.answered:
            return get_hf_file_metadata(url, retry_on_errors=True)
    sleep(0.5)
    return get_hf_file_metadata(url)


def _transfer(repo: str, name: str, revision: str, facts: Any, progress: Progress | None, start_afresh: bool) -> Path:
    """Download the file and compare it with the size and SHA-256 that the Hub announced.

    start_afresh: ignore what an earlier attempt left behind.
    """
    from huggingface_hub import hf_hub_download

    with progress(name, facts.size) if progress else _no_progress() as advance:
        bar: Any = _bar_class(advance)
        path = Path(hf_hub_download(repo, name, revision=revision, tqdm_class=bar, force_download=start_afresh))
    if damage := _damage(path, facts):
        _remove(path)
        raise _Damaged(damage)
    return path


def _remove(path: Path) -> None:
    """A file and what its link leads to, but nothing outside the cache."""
    from huggingface_hub import constants

    target = path.resolve()
    path.unlink(missing_ok=True)
    if target.is_relative_to(Path(constants.HF_HUB_CACHE).resolve()):
        target.unlink(missing_ok=True)


def _damage(path: Path, facts: Any) -> str | None:
    """What is wrong with a file that has just arrived. Only the ETag of a large file is its SHA-256."""
    size = path.stat().st_size
    if facts.size is not None and size != facts.size:
        return f"{size} bytes arrived instead of {facts.size}"
    if facts.etag and len(facts.etag) == 64:
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != facts.etag:
                return "its SHA-256 is not the one the Hub announced"
    return None


def _is_missing_file(error: Exception) -> bool:
    from huggingface_hub import errors

    return isinstance(error, errors.EntryNotFoundError) and not isinstance(error, errors.LocalEntryNotFoundError)


def explain(error: BaseException, repo: str, revision: str) -> Failure | None:
    """The failure behind an exception of huggingface_hub or its HTTP library; None for anything else."""
    from huggingface_hub import constants, errors

    hub = constants.ENDPOINT
    is_wrapper = isinstance(error, errors.LocalEntryNotFoundError) or type(error) is ValueError
    if is_wrapper and error.__cause__ is not None:
        return explain(error.__cause__, repo, revision)  # "and it is not in the cache either", which we knew
    if isinstance(error, errors.GatedRepoError):
        return Failure(f"{repo} is gated: accept its conditions at {hub}/{repo}, then `hf auth login` or set HF_TOKEN")
    if isinstance(error, errors.RepositoryNotFoundError):
        return Failure(f"{hub} has no repository {repo}, or it is private: check the spelling, or set HF_TOKEN")
    if isinstance(error, errors.RevisionNotFoundError):
        return Failure(f"{repo} has no revision {revision!r}: try another after the @, or none for its main branch")
    if isinstance(error, errors.OfflineModeIsEnabled):
        return Failure("HF_HUB_OFFLINE is set", unreachable=True)
    if isinstance(error, errors.HfHubHTTPError):
        return _explain_status(error, repo)
    if isinstance(error, errors.FileMetadataError):
        return Failure(f"what answers at {hub} is not a Hugging Face Hub (a proxy, a login page?)", unreachable=True)
    if isinstance(error, RefusedResponse):
        return Failure(f"what answers at {hub} is not a Hugging Face Hub: {error}")
    if isinstance(error, Stalled):
        return Failure(f"{hub}: the download has stalled: {error}", transient=True, answered=False)
    if isinstance(error, (_Damaged, TooLong)):
        return Failure(f"{hub}: the download was damaged: {error}", transient=True, damaged=True)
    if isinstance(error, OSError) and "Consistency check failed" in str(error):
        return Failure(f"{hub}: the download was damaged: not of the size announced", transient=True, damaged=True)
    if _is_network(error):
        return Failure(f"{hub} cannot be reached: {_brief(error)}", transient=True, answered=False)
    if isinstance(error, OSError) and error.errno is not None:  # what is left of the system's errors is the disk's
        return Failure(f"cannot write to the cache {constants.HF_HUB_CACHE}: {error.strerror} (HF_HOME moves it)")
    return None


def _explain_status(error: Any, repo: str) -> Failure:
    from huggingface_hub import constants

    status = error.response.status_code
    if status in (408, 429) or status >= 500:
        return Failure(f"{constants.ENDPOINT} answers with HTTP error {status}", transient=True)
    if status in (401, 403):
        return Failure(f"{constants.ENDPOINT} refuses access to {repo} (HTTP {status}): check the token in HF_TOKEN")
    return Failure(f"{constants.ENDPOINT} answers with HTTP error {status} for {repo}")


def _is_network(error: BaseException) -> bool:
    """Failures of a connection, whichever HTTP library this huggingface_hub uses; its Xet client says RuntimeError."""
    libraries = {cls.__module__.partition(".")[0] for cls in type(error).__mro__}
    is_xet = type(error) is RuntimeError or type(error).__name__ == "XetDownloadError"
    return isinstance(error, (ConnectionError, TimeoutError)) or is_xet or not libraries.isdisjoint(_HTTP_LIBRARIES)


def _brief(error: BaseException) -> str:
    text = str(error).strip().partition("\n")[0] or type(error).__name__
    return text if len(text) <= 160 else f"{text[:157]}..."


def _bar_class(advance: Callable[[int], None]) -> type:
    """A silent bar class for huggingface_hub that passes on how far the furthest of its bars is (Xet makes two)."""
    from huggingface_hub.utils import tqdm

    bars: list[Any] = []
    shown = 0

    class Bar(tqdm):  # type: ignore[misc, valid-type, unused-ignore]
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": True})
            self.arrived = int(options.get("initial") or 0)
            bars.append(self)

        def update(self, n: float | None = 1) -> None:
            nonlocal shown
            self.arrived += int(n or 0)
            furthest = max(bar.arrived for bar in bars)
            advance(furthest - shown)
            shown = furthest

    return Bar


@contextmanager
def _no_progress() -> Iterator[Callable[[int], None]]:
    yield lambda number_of_bytes: None


@contextmanager
def quiet_library() -> Iterator[None]:
    """Keep huggingface_hub from reporting each failed attempt: segcli reports those that matter."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
