"""Commands with a folder of results, killed at any moment and started twice at once."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segcli.types import Label, LabelSet
from tests.data import layouts

pytestmark = pytest.mark.slow
KILLS = 4
PREDICT = ["--model", "nuclei", "--task", "instance", "--save", "json,coco", "--tile", "0", "--short-side", "96", "-q"]


def start(*arguments: object, cwd: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "segcli", *map(str, arguments)]
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(*arguments: object, cwd: Path) -> tuple[int, str]:
    process = start(*arguments, cwd=cwd)
    _, said = process.communicate(timeout=600)
    return process.returncode, said


def litter(folder: Path) -> list[str]:
    """Hidden files that a run leaves only if it was killed."""
    return [str(f) for f in folder.rglob(".*") if f.name.startswith((".segcli-", ".tmp", ".predictions"))] + [
        str(f) for f in folder.rglob("*.lock")
    ]


def content(folder: Path) -> dict[str, bytes]:
    """Every file, without the times in it."""
    found = {}
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file.suffix != ".lock":
            raw = file.read_bytes()
            if file.suffix == ".json" and isinstance(document := json.loads(raw), dict):
                raw = json.dumps({k: v for k, v in document.items() if k not in ("timings", "seconds")}).encode()
            found[str(file.relative_to(folder))] = raw
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """photos/ and data/ of 24 small images."""
    place = tmp_path_factory.mktemp("runs")
    (place / "photos").mkdir()
    rng = np.random.default_rng(0)
    for number in range(24):
        Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(place / "photos" / f"{number}.png")
    nuclei = LabelSet((Label(1, "nucleus", True), Label(7, "box", True)))
    layouts.coco_instance(place / "data", layouts.things_only(layouts.scenes(12, 12)), nuclei)
    return place


COMMANDS: dict[str, tuple[list[str], list[str]]] = {  # the command, and how it goes on after a kill
    "predict": (["predict", "photos", *PREDICT], ["--skip-existing"]),
    "eval": (["eval", "data", "--model", "nuclei", "--task", "instance", "-q"], ["--skip-existing"]),
    "convert": (["data", "convert", "data", "OUT", "--to", "voc", "-q"], []),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_run_that_was_killed_and_gone_on_with_is_a_run_that_was_not(name: str, place: Path, tmp_path: Path) -> None:
    command, go_on = COMMANDS[name]

    def arguments(out: str) -> list[str]:
        return [out if word == "OUT" else word for word in command] + ([] if "OUT" in command else ["--out", out])

    whole, out = tmp_path / "whole", tmp_path / "out"
    begun = time.monotonic()
    assert run(*arguments(str(whole)), cwd=place)[0] == 0
    lasts = time.monotonic() - begun
    rng = random.Random(name)
    for number in range(KILLS):
        process = start(*arguments(str(out)), *(go_on if number else []), cwd=place)
        time.sleep(rng.uniform(0.2, lasts))
        process.send_signal(rng.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT]))
        process.communicate(timeout=60)
        if process.returncode == 0 and not go_on:
            shutil.rmtree(out)
    code, said = run(*arguments(str(out)), *go_on, cwd=place)
    assert (code, said) in ((0, said), (0, "")), said
    assert litter(tmp_path) == []
    wanted, found = content(whole), content(out)
    assert found.keys() == wanted.keys()
    assert [file for file in wanted if found[file] != wanted[file]] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_of_two_at_once_one_is_refused_and_the_other_is_whole(name: str, place: Path, tmp_path: Path) -> None:
    command, _ = COMMANDS[name]
    out = str(tmp_path / "out")
    words = [out if word == "OUT" else word for word in command] + ([] if "OUT" in command else ["--out", out])
    both = [start(*words, cwd=place) for _ in range(2)]
    said = [process.communicate(timeout=600)[1] for process in both]
    codes = sorted(process.returncode for process in both)
    assert codes[0] == 0, said
    refused = [text for text in said if "another run of segcli" in text or "exist" in text]
    assert codes == [0, 0] or refused, said
    assert litter(tmp_path) == []
    if name == "predict":
        ids = {entry["image_id"] for entry in json.loads((Path(out) / "predictions.json").read_text())}
        assert len(ids) <= 24
        assert len(os.listdir(out)) == 25
