"""Damaged files of every kind: a result or one line, in time, in memory, and nothing outside.

A few of each here; `pytest -m fuzz` for half an hour, `python -m tests.fuzz.campaign` for as many as you like.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz.campaign import Workshop, schedule
from tests.fuzz.mutate import damage
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS

FEW = 80


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """Honest files, made once; a cache of their own."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    yield Workshop(tmp_path_factory.mktemp("fuzz"))
    if before is None:
        del os.environ["XDG_CACHE_HOME"]
    else:
        os.environ["XDG_CACHE_HOME"] = before


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_few_damaged_files(target: Target, workshop: Workshop) -> None:
    failures = [workshop.run(target, seed) for seed in range(max(4, FEW // target.cost))]
    assert [str(failure) for failure in failures if failure] == []


def test_a_case_is_a_function_of_its_seed(workshop: Workshop) -> None:
    target = next(target for target in TARGETS if target.name == "COCO results")

    def content(seed: int) -> bytes:
        workshop.build(target, seed)
        return (workshop.case / "results.json").read_bytes()

    assert content(5) == content(5)
    assert len({content(seed) for seed in range(20)}) > 15


def test_the_oracle_sees_what_it_is_to_see(workshop: Workshop) -> None:
    """A reader with a traceback, one that hangs, one that writes beside its folder."""
    write = TARGETS[0].write

    def beside(folder: Path) -> None:
        if folder.parent.name == "case":
            (folder.parent / "outside").touch()

    kinds = {}
    for name, read in {
        "traceback": lambda folder: {}["x"] if folder.parent.name == "case" else None,
        "outside": beside,
    }.items():
        failure = workshop.run(Target(f"test {name}", write, read), 0)
        kinds[name] = failure and failure.kind
    assert kinds == {"traceback": "traceback", "outside": "outside"}


def test_damage_changes_files_of_every_kind() -> None:
    rng = random.Random(0)
    for name, raw in {"a.json": b'{"a": [1, 2]}', "a.txt": b"0 0.5 0.5 1", "a.png": bytes(range(99))}.items():
        changed = sum(damage(name, raw, rng) != raw for _ in range(50))
        assert changed > 30, name


@pytest.mark.fuzz
def test_many_damaged_files(workshop: Workshop) -> None:
    failures = [workshop.run(target, seed) for target, seed in schedule(TARGETS, 40_000, 1_000_000)]
    assert [str(failure) for failure in failures if failure] == []
