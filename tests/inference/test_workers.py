"""Several processes answer as one does, whatever happens to them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from segcli.errors import InputError, SegcliError
from segcli.inference import workers
from segcli.inference.workers import Job, choose_workers, run_all, run_in_processes


@dataclass
class Square(Job[int, tuple[int, str]]):
    """Squares numbers; is killed at some of them, the first time or always."""

    folder: Path | None = None
    killed_once: tuple[int, ...] = ()
    killed_always: tuple[int, ...] = ()
    wrong: int | None = None

    def open(self) -> Callable[[Sequence[int]], Generator[tuple[int, str], None, None]]:
        return self.squares

    def squares(self, items: Sequence[int]) -> Generator[tuple[int, str], None, None]:
        for item in items:
            if item == self.wrong:
                raise InputError("this one is wrong")
            mark = (self.folder or Path()) / str(item)
            if item in self.killed_always or (item in self.killed_once and not mark.exists()):
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(0.002 * (item % 3))
            yield item * item, os.environ["OMP_NUM_THREADS"]

    def lost(self, item: int) -> tuple[int, str]:
        return -item, "lost"


def squares(job: Square, count: int, processes: int = 2) -> list[int]:
    return [square for square, _ in run_in_processes(job, range(count), workers=processes, threads=3)]


def test_results_come_in_order_and_threads_are_shared_out() -> None:
    before = os.environ.get("OMP_NUM_THREADS")
    found = list(run_in_processes(Square(), range(100), workers=2, threads=3))
    assert found == [(number * number, "3") for number in range(100)]
    assert os.environ.get("OMP_NUM_THREADS") == before


def test_a_killed_process_loses_nothing(tmp_path: Path) -> None:
    assert squares(Square(tmp_path, killed_once=(7, 30)), 50, 3) == [number * number for number in range(50)]


def test_an_item_that_kills_twice_is_given_up(tmp_path: Path) -> None:
    found = squares(Square(tmp_path, killed_always=(5,)), 20, 3)
    assert found == [-5 if number == 5 else number * number for number in range(20)]


def test_all_killed_is_said(tmp_path: Path) -> None:
    with pytest.raises(SegcliError, match=r"every worker process was killed.*fewer --workers"):
        squares(Square(tmp_path, killed_once=(0, 1)), 20, 1)


def test_an_error_ends_the_run() -> None:
    with pytest.raises(InputError, match="this one is wrong"):
        squares(Square(wrong=3), 20)


def test_closing_ends_the_processes() -> None:
    stream = run_in_processes(Square(), range(10**6), workers=1, threads=1)
    assert next(stream) == (0, "1")
    stream.close()


def test_processes_where_they_are_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "peak_memory", lambda: 1 << 30)
    monkeypatch.setattr(workers, "free_memory", lambda: 10 << 30)
    assert [choose_workers(seconds, 1000, 16) for seconds in (1, 100)] == [1, 8]
    assert choose_workers(100, 3, 16) == 3
    asked: list[int] = []

    def here(items: Sequence[int]) -> Generator[tuple[int, str], None, None]:
        for item in items:
            yield item * item, "here"

    def run(count: int, **options: object) -> list[str]:
        stream = run_all(here, Square(), range(count), workers=None, started=asked.append, **options)  # type: ignore[arg-type]
        found = list(stream)
        assert [square for square, _ in found] == [number * number for number in range(count)]
        return [where for _, where in found]

    assert set(run(100, threads=8, on_cpu=False)) == {"here"}
    assert set(run(100, threads=8, on_cpu=True)) == {"here"}  # done before a process has started
    monkeypatch.setattr(workers, "WORTH", 0)
    assert run(100, threads=2, on_cpu=True) == ["here"] * workers.TRIAL + ["1"] * (100 - workers.TRIAL)
    assert asked == [2]
