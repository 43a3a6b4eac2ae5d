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
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segcli.inference.video.clip import Clip
from segcli.inference.video.encoding import ClipWriter
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
    """Files that a run leaves only if it was killed."""
    return (
        [str(f) for f in folder.rglob("*.partial*")]
        + [str(f) for f in folder.rglob(".*") if f.name.startswith((".segcli-", ".tmp", ".predictions"))]
        + [str(f) for f in folder.rglob("*.lock")]
    )


def content(folder: Path) -> dict[str, bytes]:
    """Every file, without the times in it; of a clip, whose key frames depend on the kills, when frames are shown."""
    found = {}
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file.suffix != ".lock":
            raw = file.read_bytes()
            if file.suffix == ".mp4":
                with Clip(str(file)) as clip:
                    raw = repr([round(frame.time, 3) for frame in clip]).encode()
            if file.suffix == ".json" and isinstance(document := json.loads(raw), dict):
                raw = json.dumps({k: v for k, v in document.items() if k not in ("timings", "seconds")}).encode()
            found[str(file.relative_to(folder))] = raw
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """photos/ and data/ of 24 small images, and a clip of 60."""
    place = tmp_path_factory.mktemp("runs")
    (place / "photos").mkdir()
    rng = np.random.default_rng(0)
    for number in range(24):
        Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(place / "photos" / f"{number}.png")
    with ClipWriter(place / "clip.mp4", Fraction(25)) as clip:
        for number in range(60):
            clip.write(np.roll(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8), number, 1), number / 25)
    nuclei = LabelSet((Label(1, "nucleus", True), Label(7, "box", True)))
    layouts.coco_instance(place / "data", layouts.things_only(layouts.scenes(12, 12)), nuclei)
    return place


COMMANDS: dict[str, tuple[list[str], list[str]]] = {  # the command, and how it goes on after a kill
    "predict": (["predict", "photos", *PREDICT], ["--skip-existing"]),
    "clip": (["predict", "clip.mp4", *PREDICT, "--save", "json,png,coco,overlay"], ["--skip-existing"]),
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


def test_shards_that_were_killed_and_gone_on_with_are_one_run(place: Path, tmp_path: Path) -> None:
    words = ["predict", "photos", *PREDICT, "--out"]
    begun = time.monotonic()
    assert run(*words, tmp_path / "whole", cwd=place)[0] == 0
    lasts = time.monotonic() - begun
    rng = random.Random(4)
    left = {f"{index}/4": 0 for index in range(4)}  # shard -> kills
    while left:
        running = {
            shard: start(*words, tmp_path / "out", "--shard", shard, *(["--skip-existing"] if kills else []), cwd=place)
            for shard, kills in left.items()
        }
        for shard in rng.sample(list(running), len(running)):
            if left[shard] < 2:
                time.sleep(rng.uniform(0.1, lasts / 2))
                running[shard].kill()
            running[shard].communicate(timeout=600)
            left[shard] += 1
        left = {shard: left[shard] for shard, process in running.items() if process.returncode}
        assert all(kills < 4 for kills in left.values())
    assert run("results", "merge", tmp_path / "out", "-q", cwd=place) == (0, "")
    assert litter(tmp_path) == []
    assert content(tmp_path / "out") == content(tmp_path / "whole")


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
