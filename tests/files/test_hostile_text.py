"""Text and numbers that no honest file holds: one line each, or a value."""

from __future__ import annotations

import contextlib
import json
import os
import re
from pathlib import Path

import pytest

from segcli.data.cache import signature
from segcli.data.checking.check import check
from segcli.data.detect import detect_for_checking
from segcli.errors import InputError, SegcliError, UsageError
from segcli.evaluation.folder import EvaluationFolder
from segcli.files.image_names import printable
from segcli.files.json_stream import elements, walk
from segcli.files.toml import read_toml, shown
from segcli.inspection.report_inputs import read_report
from segcli.training.record.run_files import devices_of, is_over, last_unfinished, run_id
from tests.data import layouts

DEEP = "[" * 3000 + "]" * 3000


@pytest.mark.parametrize("value", [DEEP, "{a=" * 800 + "1" + "}" * 800, "9" * 5000, "1" * 5000 + ".0.0", '"\\ud800"'])
def test_toml_beyond_all_bounds_is_one_line(value: str, tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text(f"a = {value}\n")
    with pytest.raises(UsageError, match="not valid TOML") as caught:
        read_toml(file)
    assert len(str(caught.value)) < 400 + len(str(file))


def test_hexadecimal_numbers_of_any_length_are_shown_short(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(f"a = 0x{'f' * 5000}\nb = [0x{'f' * 5000}]\n")
    for value in read_toml(tmp_path / "a.toml").values():
        assert len(shown(value)) < 100


def test_half_a_sign_and_zero_bytes_are_no_trouble() -> None:
    assert printable("a\ud800b") == "a\\ud800b"
    assert printable("caf\udce9") == "caf\\xe9"
    assert printable("café 猫") == "café 猫"
    assert signature([Path("\ud800"), Path("a\0b")]) == "- -"


def test_an_error_is_one_line_whatever_it_quotes() -> None:
    assert str(SegcliError("a\nb.json: \r")) == "a\\nb.json: \\r"


@pytest.mark.parametrize("facts", [f'{{"id": {DEEP}}}', '{"id": 7, "devices": 1e999}', "[]", '{"devices": -1}', "\xff"])
def test_a_runs_damaged_facts_are_as_none(facts: str, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "a"
    run.mkdir(parents=True)
    (run / "run.json").write_text(facts)
    (run / "config.toml").write_text(f"[data]\npath = {DEEP}\n")
    assert devices_of(run) == 1
    assert len(run_id(run)) == 12
    with pytest.raises(UsageError, match="no interrupted run"):
        last_unfinished(tmp_path / "runs", tmp_path)


@pytest.mark.parametrize("step", [DEEP, "1e999", "9" * 400, "-1", "1.5"])
def test_a_runs_damaged_lines_are_one_line(step: str, tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(f'{{"step": {step}, "kind": "train"}}\n')
    with pytest.raises(InputError, match="line 1: not a line of segcli train"):
        read_report(tmp_path, None, None)


def test_a_runs_numbers_may_be_too_long_and_its_recipe_anything(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(f"a = 0x{'f' * 5000}\nb = [[[1]]]\n")
    line = {"step": 1, "kind": "train", "loss": 10**400, "lr": 0.1}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    read_report(tmp_path, None, None)


@pytest.mark.parametrize("value", ['"\\ud800"', '"a\\nb"', '"a\\u0000b"', "9" * 5000, DEEP])
@pytest.mark.parametrize("key", ["imagePath", "label"])
def test_a_labelme_file_with_such_text_is_a_fault_or_one_line(key: str, value: str, tmp_path: Path) -> None:
    layouts.labelme(tmp_path, layouts.things_only({"train": [layouts.scene(0), layouts.scene(1)]}), layouts.THINGS)
    file = min(tmp_path.rglob("*.json"))
    before = file.read_text()
    file.write_text(re.sub(rf'"{key}": "[^"]*"', lambda _: f'"{key}": {value}', before, count=1))
    assert file.read_text() != before
    with contextlib.suppress(SegcliError):
        check(detect_for_checking(tmp_path), threads=1)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_in_place_of_rows_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "per_image.jsonl")
    with pytest.raises(InputError, match="a pipe, not a file"):
        next(EvaluationFolder(tmp_path, "panoptic", {}).rows())
    for name in ("run.json", "checkpoint.safetensors"):
        os.mkfifo(tmp_path / name)
    assert devices_of(tmp_path) == 1
    assert not is_over(tmp_path)
    for read in (walk, elements):
        with pytest.raises(InputError, match="a pipe, not a file"):
            list(read(tmp_path / "run.json"))


def test_a_link_in_a_circle_in_place_of_yaml_is_one_line(tmp_path: Path) -> None:
    layouts.yolo(tmp_path, layouts.things_only(layouts.scenes(1, 1)), layouts.THINGS)
    (tmp_path / "data.yaml").unlink()
    for name in ("data.yaml", "other.yaml"):
        (tmp_path / name).symlink_to(name)
    with pytest.raises(SegcliError):
        detect_for_checking(tmp_path)
