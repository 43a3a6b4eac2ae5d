"""A folder of results belongs to one run at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from segcli.errors import UsageError
from segcli.files.locks import owned

HOLD = "import sys, time; from pathlib import Path; from segcli.files.locks import owned\n"


def holding(out: Path) -> subprocess.Popen[str]:
    """Another process that holds a folder."""
    code = HOLD + f"with owned(Path({str(out)!r})): print('held', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_second_run_is_told_who_holds_it_until_that_is_dead(tmp_path: Path) -> None:
    process = holding(tmp_path / "out")
    try:
        with (
            pytest.raises(UsageError, match=rf"another run .*process {process.pid} on .* since 20"),
            owned(tmp_path / "out"),
        ):
            pass
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    with owned(tmp_path / "out"):
        pass
    assert not (tmp_path / "out" / ".segcli.lock").exists()


@pytest.mark.parametrize("beside", [False, True])
def test_nothing_is_left(beside: bool, tmp_path: Path) -> None:
    with owned(tmp_path / "a" / "out", beside=beside):
        assert len(list((tmp_path / "a").rglob("*.lock"))) == 1
    assert os.listdir(tmp_path) == []
    with owned(tmp_path / "out", beside=beside):
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / "result").touch()
    assert os.listdir(tmp_path / "out") == ["result"]
    assert os.listdir(tmp_path) == ["out"]


def test_parts_of_one_run_share_a_folder_that_no_whole_run_shares(tmp_path: Path) -> None:
    with owned(tmp_path, shard="1-of-2"), owned(tmp_path, shard="2-of-2"):
        with pytest.raises(UsageError, match="another run"), owned(tmp_path):
            pass
        with pytest.raises(UsageError, match="another run"), owned(tmp_path, shard="1-of-2"):
            pass
    with owned(tmp_path), pytest.raises(UsageError, match="another run"), owned(tmp_path, shard="1-of-2"):
        pass
    with owned(tmp_path):
        pass
    assert os.listdir(tmp_path) == []


def test_a_note_that_is_damaged_names_nobody(tmp_path: Path) -> None:
    with owned(tmp_path):
        (tmp_path / ".segcli.lock").write_text("[1]")
        with pytest.raises(UsageError, match="which one is not known"), owned(tmp_path):
            pass


@pytest.mark.parametrize("method", ["write_text", "unlink"])
def test_a_signal_while_a_lock_is_taken_or_given_back(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM raises at any instruction, also between two of the lock's own."""
    honest, times = getattr(Path, method), []

    def interrupted(self: Path, *values: object, **options: object) -> object:
        times.append(self)
        if len(times) == 1:
            raise KeyboardInterrupt
        return honest(self, *values, **options)

    monkeypatch.setattr(Path, method, interrupted)
    with pytest.raises(KeyboardInterrupt), owned(tmp_path / "out"):
        pass
    assert os.listdir(tmp_path) == []
    monkeypatch.undo()
    with owned(tmp_path / "out"):
        pass
