"""Signals to stop, and killed image-loading processes: a run finishes its step and saves."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

_CHILD: signal.Signals | None = getattr(signal, "SIGCHLD", None)  # Windows has none


class Stopped(Exception):
    """A signal asked to stop: what was under way is abandoned."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name  # of the signal


class Interrupts:
    """While entered, the first SIGINT or SIGTERM only sets `name`; a second one has its usual effect.

    The end of a child process is noticed inside `hearing_children` only.
    """

    def __init__(self) -> None:
        self.name: str | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._on_child: Any = None  # what hears of it, while it is not heard

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python hands out no signals
            if _CHILD is not None:
                self._on_child = signal.signal(_CHILD, signal.SIG_DFL)
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._heard)
        return self

    @contextlib.contextmanager
    def hearing_children(self) -> Iterator[None]:
        """Inside, torch may raise an error for an image-loading process that was killed, now or earlier. By itself it
        raises wherever the main thread happens to be, even half-way through an update.
        """
        if _CHILD is None or self._on_child is None:
            yield
            return
        try:
            signal.signal(_CHILD, self._on_child)
            if callable(self._on_child):
                self._on_child(_CHILD, None)
            yield
        finally:
            self._on_child = signal.signal(_CHILD, signal.SIG_DFL)

    def _heard(self, number: int, _: FrameType | None) -> None:
        self.name = signal.Signals(number).name
        self._restore()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()
        if _CHILD is not None and self._on_child is not None:
            signal.signal(_CHILD, self._on_child)
            self._on_child = None

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}


def is_lost_worker(error: BaseException) -> bool:
    """Whether an exception is torch's error for an image-loading process that was killed."""
    return isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker (pid")
