"""Guards on responses of a Hub: names that become paths, endless files, endless waits.

huggingface_hub builds the paths of its cache from headers of the server (ETag, X-Repo-Commit). Mirrors are other
people's servers, so a response is checked before huggingface_hub sees it.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any

SLOWEST = 1024  # bytes a second; a transfer that is slower …
STALL_SECONDS = 30.0  # … over this time has stalled
LONGEST_WAIT = 60  # seconds that a server may ask us to wait
LARGEST_UNANNOUNCED = 64 << 20  # bytes of a file whose size the server does not say

_NAMES = {  # headers that become parts of paths
    "x-repo-commit": re.compile(r"[0-9A-Za-z_-]{1,64}"),
    "x-xet-hash": re.compile(r"[0-9a-fA-F]{1,128}"),
}
_ETAG = re.compile(r"[0-9a-fA-F-]{1,128}")


class RefusedResponse(Exception):
    """A response that cannot be a Hub's."""


class Stalled(Exception):
    """A transfer that has become too slow to wait for."""


class TooLong(Exception):
    """More bytes than were announced."""


@dataclass
class Limits:
    """What a body may have."""

    size: int | None = None  # bytes, as announced; None: not announced


@contextmanager
def guarded() -> Iterator[Limits]:
    """Every response that huggingface_hub gets in here is checked, and its body watched, by limits that may change.

    Raises RefusedResponse, Stalled and TooLong from within huggingface_hub's calls.
    """
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils import _http

    limits = Limits()

    def hook(response: Any) -> None:
        check_headers(response.headers)
        response.stream = _watched_stream(response)(response.stream, limits)

    # A hook on the client of now would be lost: huggingface_hub makes a new one after a failed connection.
    own = _http._GLOBAL_CLIENT_FACTORY

    def make_client() -> Any:
        client = own()
        client.event_hooks = {**client.event_hooks, "response": [*client.event_hooks["response"], hook]}
        return client

    set_client_factory(make_client)
    try:
        yield limits
    finally:
        set_client_factory(own)


def check_headers(headers: Any) -> None:
    """Raises RefusedResponse for a name that is not plain; shortens the wait a server asks for."""
    for name, pattern in _NAMES.items():
        value = headers.get(name)
        if value is not None and not pattern.fullmatch(value):
            raise RefusedResponse(f"its {name} header is {value[:60]!r}, which is no name")
    if "x-repo-commit" in headers:
        for name in ("x-linked-etag", "etag"):  # the first of these names the file in the cache
            if (value := headers.get(name)) is not None:
                if not _ETAG.fullmatch(value.removeprefix("W/").strip('"')):
                    raise RefusedResponse(f"its {name} header is {value[:60]!r}, which is no checksum")
                break
    if (wait := headers.get("retry-after", "")).isdigit() and int(wait[:9]) > LONGEST_WAIT:
        headers["retry-after"] = str(LONGEST_WAIT)
    headers.pop("ratelimit", None)  # the same in another form, of any length


def _watched_stream(response: Any) -> Callable[[Any, Limits], Any]:
    """A class of byte streams of the response's own HTTP library."""
    library = importlib.import_module(type(response).__module__.partition(".")[0])

    class Watched(library.SyncByteStream):  # type: ignore[name-defined]  # httpx or its successor
        def __init__(self, stream: Any, limits: Limits) -> None:
            self._stream = stream
            self._most = LARGEST_UNANNOUNCED if limits.size is None else limits.size

        def __iter__(self) -> Iterator[bytes]:
            total, recent, since = 0, 0, monotonic()
            for chunk in self._stream:
                total, recent, now = total + len(chunk), recent + len(chunk), monotonic()
                if total > self._most + 1024:  # compressed text may be a little longer than plain
                    raise TooLong(f"more than the {self._most} bytes announced arrived")
                if now - since >= STALL_SECONDS:
                    if recent < SLOWEST * (now - since):
                        raise Stalled(f"{recent} bytes arrived in {now - since:.0f} seconds")
                    recent, since = 0, now
                yield chunk

        def close(self) -> None:
            self._stream.close()

    return Watched
