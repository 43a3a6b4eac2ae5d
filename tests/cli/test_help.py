"""The command line before any work: help, version, completion. How soon it answers: benchmarks/cold_start.py."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from segcli.cli import app
from segcli.cli.app import App

HEAVY = ["torch", "torchvision", "numpy", "scipy", "cv2", "PIL", "huggingface_hub", "safetensors"]
HEAVY += ["matplotlib", "hotcoco", "segcli.training.recipe", "segcli.data.dataset_toml"]
HELP = [["--help"], ["predict", "--help"], ["models", "--help"], ["train", "--help"], ["eval", "--help"]]
HELP += [["visualize", "--help"], *(["viz", command, "--help"] for command in ("overlays", "curves", "report"))]
HELP += [["viz", command, "--help"] for command in ("attention", "queries", "matching", "features")]
HELP += [["data", command, "--help"] for command in ("check", "convert", "stats", "split")]
HELP += [["models", command, "--help"] for command in ("list", "show", "pull", "path", "verify")]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "segcli", *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, **environment},
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("arguments", HELP, ids=" ".join)
def test_help_imports_nothing_heavy(arguments: Sequence[str]) -> None:
    script = f"""
import json, sys
from segcli.cli import app
try:
    app({list(arguments)!r}, prog_name="segcli")
except SystemExit as exit:
    print(json.dumps([exit.code, [name for name in {HEAVY!r} if name in sys.modules]]))
"""
    command = [sys.executable, "-c", script]
    answer = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True)
    assert "Usage: segcli" in answer.stdout
    assert "<bool>" not in answer.stdout
    assert json.loads(answer.stdout.splitlines()[-1]) == [0, []]


def test_no_help_page_shows_the_type_of_a_flag_and_groups_show_examples() -> None:
    script = """
import typer
from segcli.cli import app
from segcli.cli.app import Later
def walk(command, path):
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from walk(inner.load() if isinstance(inner, Later) else inner, [*path, name])
for path, command in walk(typer.main.get_command(app), []):
    print("PAGE", " ".join(path))
    try:
        app([*path, "--help"], prog_name="segcli")
    except SystemExit:
        pass
"""
    command = [sys.executable, "-c", script]
    answer = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True)
    pages = dict(page.split("\n", 1) for page in answer.stdout.split("PAGE ")[1:])
    assert len(pages) > 20
    assert not [name for name, page in pages.items() if re.search("<bool>|boolean", page, re.IGNORECASE)]
    for group in ("data", "models", "visualize"):
        examples = pages[group].partition("Options")[0]
        assert f"segcli {group.replace('visualize', 'viz')} " in examples.partition("COMMAND")[2], group


def test_the_line_of_a_command_is_the_first_sentence_of_its_help() -> None:
    from segcli.cli import app
    from segcli.cli.app import Later

    root = typer.main.get_command(app)
    later = [command for command in root.commands.values() if isinstance(command, Later)]
    assert {command.name: command.help for command in later} == {
        command.name: " ".join(command.load().help.split("\n\n")[0].split()) for command in later
    }
    assert len(later) > 8


def test_importing_the_package_costs_nothing() -> None:
    script = "import sys, segcli; print(dir(segcli)); print([m for m in sys.argv[1:] if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", script, *HEAVY, "typer"], capture_output=True, text=True, check=True)
    names, loaded = answer.stdout.splitlines()
    assert {"load_model", "predict", "Segments"} <= set(eval(names))
    assert loaded == "[]"


def test_version() -> None:
    import segcli

    answer = run("--version")
    assert answer.stdout == f"segcli {segcli.__version__}\n"
    assert answer.returncode == 0


def test_completion_of_commands_and_model_names() -> None:
    environment = {"_SEGCLI_COMPLETE": "complete_bash", "_TYPER_COMPLETE_TESTING": "1"}

    def complete(line: str) -> list[str]:
        words = line.split(" ")
        script = "import sys; from segcli.cli import app; sys.argv = ['segcli']; app(prog_name='segcli')"
        answer = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            env={**os.environ, **environment, "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)},
            check=False,
        )
        return answer.stdout.split()

    assert complete("segcli pre") == ["predict"]
    assert "swin-tiny-coco-panoptic" in complete("segcli predict --model swin-tiny")


def test_a_closed_pipe_is_not_an_error_to_read_about() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "segcli", "models", "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 1


@pytest.mark.parametrize(
    ("arguments", "said"),  # by Typer of today, and by those that still use Click
    [
        (["train", "--lr", "fast"], "'--lr': (expected a number|'fast' is not a valid float)"),
        (["train", "--devices", "x"], "'--devices': (expected a whole number|'x' is not a valid int)"),
        (["train", "--devices", "0"], "'--devices': (expected at least 1|0 is not in the range)"),
        (["predict", "x", "--task", "boxes"], "'boxes' is not one of 'panoptic', 'instance', 'semantic', 'detect'"),
    ],
)
def test_a_wrong_value_is_told_in_plain_words(arguments: list[str], said: str) -> None:
    answer = run(*arguments, COLUMNS="200")
    assert answer.returncode == 2
    assert re.search(said, answer.stderr)
    assert "Value error" not in answer.stderr
    assert "Input should" not in answer.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("predict", "a.png", "--alpha", "50%"), "'--alpha': expected a number, not 50%"),
        (("predict", "a.png", "--threshold=50"), "'--threshold': expected at most 1, not 50"),
        (("predict", "a.png", "--task", "sematic"), "did you mean semantic?"),
        (("predict", "a.png", "--thresold", "0.5"), "--threshold"),
        (("data", "convert", "a", "b"), "Missing option '--to'; for example: segcli data convert"),
        (("predikt", "a.png"), "predikt: no such command; did you mean predict?"),
        (("viz", "gallery"), "gallery: no such command; there are overlays, curves, "),
        (("predict",), "Missing argument 'SOURCES...'; for example: segcli predict"),
    ],
)
def test_wrong_use_is_one_line_with_what_was_typed(arguments: tuple[str, ...], reason: str) -> None:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("segcli: error: ")
    assert reason in line


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["--out=~/runs"], "HOME/runs"),  # a shell leaves these
        (["--out", "~/my runs"], "HOME/my runs"),
        (["--out=~"], "HOME"),
        (["--out=~nobody/runs"], "~nobody/runs"),
        (["--out=a~/runs"], "a~/runs"),
        (["--out", "./~/runs"], "~/runs"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_tilde_is_the_user_s_folder(
    typed: list[str], meant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    app = App(add_completion=False)

    @app.command()
    def write(out: Annotated[Path, typer.Option("--out")]) -> None:
        typer.echo(out)

    result = CliRunner().invoke(app, typed)
    assert result.stdout.strip() == meant.replace("HOME", str(tmp_path))


def test_a_folder_that_is_called_tilde_is_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~").mkdir()
    app = App(add_completion=False)

    @app.command()
    def write(out: Path) -> None:
        typer.echo(out)

    assert CliRunner().invoke(app, ["~"]).stdout.strip() == "~"
