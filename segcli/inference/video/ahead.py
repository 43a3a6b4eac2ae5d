"""Decoding on a thread of its own, a few frames ahead of the network, or as a live source shows them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")
_PATIENCE = 0.2  # seconds between two looks at whether to stop


class Ahead(Generic[Item]):
    """The same items, made on another thread.

    room: how many may wait. newest: never wait for the taker, but leave the oldest out; `left_out` counts them.
    stopped: asked now and then while nothing comes; true ends it.
    """

    def __init__(
        self,
        items: Iterable[Item],
        room: int,
        *,
        newest: bool = False,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self.left_out = 0
        self._items, self._room, self._newest, self._stopped = items, room, newest, stopped
        self._ready: deque[Item] = deque()
        self._changed = threading.Condition()
        self._closed = self._ended = False
        self._error: BaseException | None = None

    def __iter__(self) -> Iterator[Item]:
        thread = threading.Thread(target=self._make, name="segcli-decode", daemon=True)
        thread.start()
        try:
            while True:
                with self._changed:
                    while not (self._ready or self._ended or self._stopped()):
                        self._changed.wait(_PATIENCE)
                    if not self._ready:
                        if self._error is not None:
                            raise self._error
                        return
                    item = self._ready.popleft()
                    self._changed.notify()
                yield item
        finally:
            with self._changed:
                self._closed = True
                self._changed.notify()
            thread.join(timeout=_PATIENCE if self._stopped() else 5)

    def _make(self) -> None:
        try:
            for item in self._items:
                with self._changed:
                    while len(self._ready) >= self._room and not (self._newest or self._closed):
                        self._changed.wait()
                    if self._closed:
                        return
                    if len(self._ready) >= self._room:
                        self._ready.popleft()
                        self.left_out += 1
                    self._ready.append(item)
                    self._changed.notify()
        except BaseException as error:
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify()
