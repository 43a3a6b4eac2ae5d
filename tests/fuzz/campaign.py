"""Damage files by the thousand and read them: `python -m tests.fuzz.campaign --cases 100000 --seed 0`.

The oracle: a SegcliError or a result, within ten seconds of work and 1.5 GB above what the process had, and nothing
written outside of the case's own folder. Every case is a function of its target and seed, which a failure is reported
with; give both to see it again: `python -m tests.fuzz.campaign --only "COCO results" --seed 4711 --cases 1 --keep DIR`.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fuzz.mutate import damage, damage_kind
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS, allowed

SECONDS = 10  # of the processor, which a busy machine does not change
WAITING = 60  # by the clock: a reader that sleeps
MEMORY = 1_500_000_000


@dataclass(frozen=True)
class Failure:
    """A case that is neither a result nor one line."""

    target: str
    seed: int
    kind: str  # "traceback", "time", "memory", "outside"
    detail: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.target!r} seed {self.seed}: {self.detail}"


class _Late(BaseException):
    """Not an Exception, so that no reader takes it for damage."""


def _late(*_: Any) -> None:
    raise _Late


class Workshop:
    """The honest files of some targets, and a folder that each case is built in."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.case = home / "case" / "data"
        self._honest: dict[str, dict[str, bytes]] = {}

    def files(self, target: Target) -> dict[str, bytes]:
        """The target's honest files by their names; read once whole, so that there is something to damage."""
        if target.name not in self._honest:
            folder = self.home / "honest" / target.name.replace("/", "-") / "data"
            folder.mkdir(parents=True)
            target.write(folder)
            target.read(folder)
            found = {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}
            self._honest[target.name] = found
        return self._honest[target.name]

    def build(self, target: Target, seed: int) -> None:
        """The damaged files of one case."""
        files = dict(self.files(target))
        rng = random.Random(f"{target.name} {seed}")
        open_ = [name for name in files if not name.endswith(target.spared or ("\0",))]
        small = [name for name in open_ if name.endswith((".json", ".jsonl", ".toml", ".yaml", ".txt", ".xml", ".csv"))]
        for _ in range(rng.choice([1, 1, 1, 2])):
            name = rng.choice(small if small and rng.random() < 0.7 else open_)
            files[name] = damage(name, files[name], rng)
        shutil.rmtree(self.case.parent, ignore_errors=True)
        self.case.mkdir(parents=True)
        for name, raw in files.items():
            file = self.case / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(raw)
        if rng.random() < 0.03:
            damage_kind(self.case / rng.choice(list(files)), rng)

    def run(self, target: Target, seed: int) -> Failure | None:
        """One case."""
        self.build(target, seed)
        before, beside = _peak(), set(os.listdir(self.case.parent))
        signal.signal(signal.SIGPROF, _late)
        signal.signal(signal.SIGALRM, _late)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        signal.setitimer(signal.ITIMER_REAL, WAITING)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                target.read(self.case)
        except _Late:
            return Failure(target.name, seed, "time", f"more than {SECONDS} s")
        except Exception as error:
            if not allowed(error):
                place = traceback.extract_tb(error.__traceback__)[-1]
                ours = [f for f in traceback.extract_tb(error.__traceback__) if "/segcli/" in f.filename]
                place = ours[-1] if ours else place
                said = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}: {str(error)[:120]!r}"
                return Failure(target.name, seed, "traceback", said)
            if "\n" in str(error):
                return Failure(target.name, seed, "traceback", f"more than one line: {str(error)[:120]!r}")
            if len(str(error)) > 2000:
                return Failure(target.name, seed, "traceback", f"a message of {len(str(error))} characters")
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
        if _peak() - before > MEMORY:
            return Failure(target.name, seed, "memory", f"{(_peak() - before) / 1e9:.1f} GB")
        if outside := set(os.listdir(self.case.parent)) - beside - {"out"}:  # where converters write
            return Failure(target.name, seed, "outside", str(outside))
        return None


def _peak() -> int:
    """Most memory this process ever had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def schedule(targets: Sequence[Target], cases: int, seed: int) -> Iterator[tuple[Target, int]]:
    """As many cases, cheap targets more often."""
    weights = [1 / target.cost for target in targets]
    rng = random.Random(seed)
    for number in range(cases):
        yield rng.choices(targets, weights)[0], seed + number


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a campaign; -> the number of failures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="targets whose name holds this")
    parser.add_argument("--keep", type=Path, help="leave the last case's files here")
    given = parser.parse_args(arguments)
    targets = [target for target in TARGETS if given.only in target.name]
    done: Counter[str] = Counter()
    failures = 0
    os.environ.setdefault("XDG_CACHE_HOME", tempfile.mkdtemp())
    with tempfile.TemporaryDirectory() as home:
        workshop = Workshop(Path(home))
        for target, seed in schedule(targets, given.cases, given.seed):
            failure = workshop.run(target, seed)
            done[target.name] += 1
            if failure:
                failures += 1
                print(failure, flush=True)
            if sum(done.values()) % 5000 == 0:
                print(f"{sum(done.values())} cases, {failures} failures", file=sys.stderr, flush=True)
        if given.keep:
            shutil.copytree(workshop.case, given.keep)
    for name, count in sorted(done.items()):
        print(f"{count:8d}  {name}")
    print(f"{sum(done.values())} cases, seed {given.seed}, {failures} failures, peak {_peak() / 1e9:.2f} GB")
    return min(failures, 100)


if __name__ == "__main__":
    sys.exit(main())
