"""Several processes over one list of work; results come in the order of the list, as from one process.

A small network on many cores is slow because every image is cut into slivers; whole images side by side are not. Each
process has its own connection, so one that is killed affects only the images it was working on, which go to the
others. Weights are not sent: every process maps the same file, so they lie in memory once.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Generic, TypeVar

from segcli.errors import SegcliError

Item = TypeVar("Item")
Result = TypeVar("Result")

TRIAL = 12  # images after which it is decided whether processes are worth their start
WORTH = 12.0  # seconds of work left that are: starting a process takes about three
KILLED = (
    "two worker processes were killed while predicting this image, most likely because memory ran out; "
    "use --workers 1 or --tile"
)
_SHARE = 0.8  # of the free memory that processes may take
_CHUNK = 16  # items that a process is given at a time; fewer towards the end, so that all finish together
_AT_HAND = 2  # chunks that a process has, so that it never waits for the next
_WINDOW = 4  # chunks a process, by which the fastest may be ahead of the slowest
_PATIENCE = 60.0  # seconds a process has to finish the file it is writing


class Job(ABC, Generic[Item, Result]):
    """The work of one process; picklable."""

    @abstractmethod
    def open(self) -> Callable[[Sequence[Item]], Generator[Result, None, None]]:
        """Called once in each process. What it returns gives one result for each of some items, in their order."""

    @abstractmethod
    def lost(self, item: Item) -> Result:
        """The result for an item at which two processes were killed."""


def run_all(
    here: Callable[[Sequence[Item]], Generator[Result, None, None]],
    job: Job[Item, Result],
    items: Sequence[Item],
    *,
    workers: int | None,
    threads: int,
    on_cpu: bool,
    started: Callable[[int], None] = lambda workers: None,
) -> Generator[Result, None, None]:
    """Results of all items, in order.

    here: works on items in this process; job: does the same in another.
    workers: how many processes, or None to decide after the first items: see `choose_workers`.
    threads: how many threads all processes have together. started: called with the number of processes once they start.
    """
    if workers is None:
        if not on_cpu or threads < 2 or len(items) <= 2 * TRIAL:
            workers = 1
        else:
            with closing(here(items[:TRIAL])) as trial:
                yield next(trial)  # the first one takes longer
                start = time.perf_counter()
                yield from trial
            seconds = (time.perf_counter() - start) / (TRIAL - 1)
            items = items[TRIAL:]
            workers = choose_workers(seconds * len(items), len(items), threads)
    if workers == 1:
        yield from here(items)
        return
    started(workers)
    yield from run_in_processes(job, items, workers=workers, threads=max(1, threads // workers))


def choose_workers(seconds: float, items: int, threads: int) -> int:
    """How many processes for this many seconds of work: one per thread, if worth starting and memory suffices.

    Each is assumed to need as much memory as this process had at its peak.
    """
    if seconds < WORTH:
        return 1
    fitting = int(_SHARE * free_memory() / max(peak_memory(), 1)) if peak_memory() else threads
    return max(1, min(threads, items, fitting))


def peak_memory() -> int:
    """Peak memory of this process in bytes; 0 where the system does not report it."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if os.uname().sysname == "Darwin" else 1024)


def free_memory() -> int:
    """Free bytes: of the machine, and of the container if it has a limit."""
    found = []
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        used = Path("/sys/fs/cgroup/memory.current").read_text(encoding="ascii").strip()
        found += [int(limit) - int(used)] if limit.isdecimal() else []
    except (OSError, ValueError):
        pass
    if not found and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
    return max(0, min(found, default=4 << 30))


# ------------------------------------------------------------------------------------------------------ this process


_Entry = tuple[int, Any]  # the number of an item, and the item


@dataclass
class _Worker:
    process: Any
    connection: Connection
    given: deque[_Entry] = field(default_factory=deque)  # and not answered yet, in order
    chunks: deque[int] = field(default_factory=deque)  # how many of them belong to each chunk


def run_in_processes(
    job: Job[Item, Result], items: Sequence[Item], *, workers: int, threads: int
) -> Generator[Result, None, None]:
    """Results of all items, in order, from `workers` processes of `threads` threads each.

    Raises what a job raises, and SegcliError if all processes are killed. Closing the generator lets every process
    finish the files it is writing, and starts no other item.
    """
    pool = _Pool(job, deque(enumerate(items)), [_start(job, threads) for _ in range(workers)])
    try:
        while pool.feed():
            pool.receive()
            yield from pool.in_order()
    finally:
        _end(pool.workers)


@dataclass
class _Pool(Generic[Item, Result]):
    job: Job[Item, Result]
    remaining: deque[_Entry]
    workers: list[_Worker]
    killed_at: set[int] = field(default_factory=set)
    results: dict[int, Result] = field(default_factory=dict)  # those that wait for an earlier one
    next: int = 0  # number of the result to be yielded next
    size: int = field(init=False)

    def __post_init__(self) -> None:
        self.size = len(self.workers)

    def feed(self) -> bool:
        """Give every process its next items. False if there is nothing left to wait for."""
        if self.remaining and not self.workers:
            raise SegcliError(
                "every worker process was killed, most likely because memory ran out; use fewer --workers, "
                "then continue with --skip-existing"
            )
        for worker in self.workers:
            while len(worker.chunks) < _AT_HAND and (chunk := self._take()):
                worker.given.extend(chunk)
                worker.chunks.append(len(chunk))
                with suppress(OSError):  # killed: `receive` will see it
                    worker.connection.send([item for _, item in chunk])
        return any(worker.given for worker in self.workers)

    def _take(self) -> list[_Entry]:
        if not self.remaining or self.remaining[0][0] >= self.next + _WINDOW * _CHUNK * self.size:
            return []  # the slowest one first
        count = max(1, min(_CHUNK, len(self.remaining) // (4 * self.size)))
        return [self.remaining.popleft() for _ in range(min(count, len(self.remaining)))]

    def receive(self) -> None:
        """Wait until processes answer, or are killed."""
        ready = wait([worker.connection for worker in self.workers])
        for worker in [worker for worker in self.workers if worker.connection in ready]:
            try:
                kind, value = worker.connection.recv()
            except (EOFError, OSError):
                self._lose(worker)
                continue
            if kind == "error":
                raise value
            number, _ = worker.given.popleft()
            self.results[number] = value
            worker.chunks[0] -= 1
            if not worker.chunks[0]:
                worker.chunks.popleft()

    def _lose(self, worker: _Worker) -> None:
        self.workers.remove(worker)
        worker.connection.close()
        if not worker.given:
            return
        number, item = worker.given[0]  # the one it was at
        if number in self.killed_at:
            self.results[number] = self.job.lost(item)
            worker.given.popleft()
        self.killed_at.add(number)
        self.remaining = deque(sorted([*worker.given, *self.remaining], key=lambda entry: entry[0]))

    def in_order(self) -> Iterator[Result]:
        while self.next in self.results:
            result = self.results.pop(self.next)
            self.next += 1
            yield result


def _start(job: Any, threads: int) -> _Worker:
    context = multiprocessing.get_context("spawn")  # a forked process would inherit torch's threads half
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, job), daemon=True, name="segcli-worker")
    limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    before = {name: os.environ.get(name) for name in limits}
    os.environ.update(limits)
    try:
        process.start()
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    theirs.close()
    return _Worker(process, ours)


def _end(workers: Sequence[_Worker]) -> None:
    for worker in workers:
        worker.connection.close()
    until = time.monotonic() + _PATIENCE
    for worker in workers:
        worker.process.join(max(0.0, until - time.monotonic()))
        if worker.process.is_alive():
            worker.process.terminate()


# -------------------------------------------------------------------------------------------------- the other process


def _work(connection: Connection, job: Job[Any, Any]) -> None:
    """What a process does: take items until the connection ends."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the first process hears them, and closes the connection
        signal.signal(number, signal.SIG_IGN)
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    ended = threading.Event()
    threading.Thread(target=_take_in, args=(connection, inbox, ended), daemon=True).start()

    try:
        work = job.open()
        for chunk in iter(inbox.get, None):
            with closing(work(chunk)) as results:
                for result in results:
                    connection.send(("result", result))
                    if ended.is_set():
                        return
            if ended.is_set():
                return
    except BrokenPipeError:  # the first process has ended
        return
    except BaseException as error:
        _tell(connection, error)


def _take_in(connection: Connection, inbox: queue.SimpleQueue[Any], ended: threading.Event) -> None:
    """Receive on a thread of its own, so that neither side waits for the other to take what it sends."""
    try:
        while True:
            inbox.put(connection.recv())
    except (EOFError, OSError):
        ended.set()
        inbox.put(None)


def _tell(connection: Connection, error: BaseException) -> None:
    import traceback

    if not isinstance(error, SegcliError):
        error = RuntimeError("in a worker process: " + "".join(traceback.format_exception(error)))
    with suppress(OSError):
        connection.send(("error", error))
