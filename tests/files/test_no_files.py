"""What is no file, or has no end: one line, and nothing is read. Sparse files stand in for discs full of zeros."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from segcli.errors import SegcliError
from segcli.evaluation.folder import EvaluationFolder
from segcli.files.json_file import read_json
from segcli.files.json_stream import elements
from segcli.training.record.run_log import read_runs
from segcli.weights.pickles import read_weights

READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "weights": ("model.pkl", read_weights),
    "JSON": ("a.json", read_json),
    "JSON by rows": ("a.json", lambda file: list(elements(file))),
    "curves": ("metrics.jsonl", lambda file: read_runs([file.parent])),
    "evaluation": ("per_image.jsonl", lambda file: list(EvaluationFolder(file.parent, "panoptic", {}).rows())),
}


@pytest.mark.parametrize("reader", READERS)
def test_a_terabyte_of_nothing(reader: str, tmp_path: Path) -> None:
    name, read = READERS[reader]
    (tmp_path / name).touch()
    os.truncate(tmp_path / name, 10**12)
    with pytest.raises(SegcliError, match=name):
        read(tmp_path / name)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no such device on this system")
@pytest.mark.parametrize("reader", ["weights", "JSON", "curves"])
def test_a_device_has_no_end(reader: str, tmp_path: Path) -> None:
    name, read = READERS[reader]
    (tmp_path / name).symlink_to("/dev/zero")
    with pytest.raises(SegcliError):
        read(tmp_path / name)
