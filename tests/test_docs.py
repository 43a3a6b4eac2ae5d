"""What the documentation says is so: links lead somewhere, names are in the code, every command is one segcli takes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from segcli.cli import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\(([^)#\s]+)\)")
FENCE = re.compile(r"^```(?:sh|bash)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = [target for target in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in target]
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_names_in_how_it_works_are_in_the_code() -> None:
    text = (ROOT / "docs/how-it-works.md").read_text(encoding="utf-8")
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "segcli").rglob("*.py"))
    names = {part for name in re.findall(r"`([A-Za-z_.]+)`", text) for part in name.split(".")} - {"facade", "segcli"}
    photos = {"astronaut", "chelsea"}
    assert sorted(name for name in names - photos if not re.search(rf"\b{name}\b", code)) == []


def commands(page: Path) -> Iterator[list[str]]:
    """The arguments of every `segcli …` in the page's shell blocks, also behind `&&` and in pipes."""
    for block in FENCE.findall(page.read_text(encoding="utf-8")):
        for line in block.replace("\\\n", " ").splitlines():
            lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
            lexer.whitespace_split, lexer.commenters = True, "#"
            words: list[str] = []
            for word in [*lexer, ";"]:
                if set(word) - set("|&;<>"):
                    words.append(word)
                    continue
                while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):  # variables in front
                    words = words[1:]
                if words[:1] == ["segcli"]:
                    yield words[1:]
                words = []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_one_that_segcli_takes(page: Path) -> None:
    """Its options exist and their values are of the kind they want."""
    for arguments in commands(page):
        if arguments in (["--help"], ["help"], ["--version"], ["-V"]) or "…" in arguments:
            continue
        command: Any = typer.main.get_command(app)
        context, rest = command.context_class(command, info_name="segcli"), arguments
        while hasattr(command, "commands"):  # a group; Typer has Click within it or beside it, depending on its age
            assert rest[0] in command.commands, f"segcli {shlex.join(arguments)}: no such command"
            name, command, rest = command.resolve_command(context, rest)
            context = command.context_class(command, parent=context, info_name=name)
        try:
            command.parse_args(context, list(rest))
        except Exception as error:
            told = getattr(error, "format_message", lambda error=error: repr(error))()
            pytest.fail(f"segcli {shlex.join(arguments)}: {told}")
