"""How commands look in help, where an option without a value shows none, and what is said of a wrong value."""

from __future__ import annotations

import difflib
import importlib
import os
import re
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from segcli.errors import UsageError, cut


class _PlainFlags:
    """Typer ≥ 0.20 writes `<bool>` beside --quiet, and beside --help."""

    def get_params(self, ctx: Any) -> list[Any]:
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]  # of the command that this is mixed into
        for param in params:
            if getattr(param, "is_flag", False) and param.metavar is None:
                param.metavar = ""
        return params


# How newer Typers, which check values with pydantic, say what is wrong, and how we do.
_WORDS = (
    (r"^Value error, ", ""),
    (r"^Input should be a valid integer.*", "expected a whole number"),
    (r"^Input should be a valid number.*", "expected a number"),
    (r"^Input should be greater than or equal to (\S+)$", r"expected at least \1"),
    (r"^Input should be less than or equal to (\S+)$", r"expected at most \1"),
)


_FORMERLY = {"--precision": "--dtype"}


class Command(_PlainFlags, TyperCommand):
    """A command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Has Typer parse; what it says of a wrong value is put in our words, in one line as every error."""
        given = [_at_home(word) for word in args]
        try:
            return super().parse_args(ctx, list(given))
        except Exception as error:  # Click's, or what Typer brings in its place
            message = getattr(error, "message", None)
            if not isinstance(message, str) or not hasattr(error, "format_message") or "Help" in type(error).__name__:
                raise
            for pattern, words in _WORDS:
                message = re.sub(pattern, words, message, flags=re.DOTALL)
            error.message = message  # type: ignore[attr-defined]
            text = " ".join(str(error.format_message()).split()).rstrip(".")
            if (new := _FORMERLY.get(getattr(error, "option_name", ""))) is not None:
                text = f"{text.partition(' (')[0]} (it is called {new})"
            raise UsageError(f"{text}{self._hint(error, given)}") from error

    def _hint(self, error: Any, given: list[str]) -> str:
        """The value that was typed, what it may have meant, and of what is missing an example."""
        param = getattr(error, "param", None)
        value = next((value for flag in getattr(param, "opts", ()) if (value := _value_of(flag, given))), None)
        if value is None:
            lines = (line.strip() for line in (self.help or "").splitlines())
            example = next((line for line in lines if line.startswith("segcli ")), None)
            return f"; for example: {example}" if example and "issing" in type(error).__name__ else ""
        choices = re.findall(r"'([^']+)'", str(error.message).partition("not one of")[2])
        close = difflib.get_close_matches(value, choices, n=1)
        typed = "" if value in str(error.message) else f", not {cut(value, 40)}"
        return f"{typed}; did you mean {close[0]}?" if close else typed


def _at_home(word: str) -> str:
    """A word with the user's folder for "~" where a shell leaves it: in --out=~/x, in quotes, on Windows. Otherwise a
    folder called ~ would be made here, and who removes that may remove more."""
    flag, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    if not (value == "~" or value.startswith(("~/", "~\\"))) or os.path.exists(value):
        return word
    return f"{flag}{equals}{os.path.expanduser(value)}"  # Path's raises where nobody has a home


def _value_of(flag: str, given: list[str]) -> str | None:
    """What stands after an option, as it was typed."""
    for place, word in enumerate(given):
        if word == flag:
            return given[place + 1] if place + 1 < len(given) else None
        if word.startswith(f"{flag}="):
            return word.partition("=")[2]
    return None


class Later(Command):
    """A command by its name and its line in `--help`; its module is imported when it is called."""

    def __init__(self, name: str, place: str, line: str, hidden: bool = False) -> None:
        super().__init__(name=name, help=line, hidden=hidden)
        self.place = place  # module:name of the function, or of the App whose commands stand under this one

    def load(self) -> Any:
        """The command itself."""
        module, _, name = self.place.partition(":")
        found = getattr(importlib.import_module(module), name)
        if not isinstance(found, App):
            alone = App(add_completion=False, no_args_is_help=False)
            alone.command(name=self.name)(found)
            return typer.main.get_command(alone)
        group = typer.main.get_group(found)
        group.name = self.name
        return group


class Group(_PlainFlags, TyperGroup):
    """Some commands under one name."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that is called, imported. Raises UsageError, one line as every error, if there is none."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            there = [name for name, command in self.commands.items() if not command.hidden]
            close = difflib.get_close_matches(args[0], there, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(there)}"
            raise UsageError(f"{cut(args[0], 40)}: no such command; {hint}")
        name, command, rest = super().resolve_command(ctx, args)
        return name, command.load() if isinstance(command, Later) else command, rest


class App(typer.Typer):
    """Typer with these."""

    def __init__(self, *, cls: type[TyperGroup] = Group, no_args_is_help: bool = True, **options: Any) -> None:
        super().__init__(cls=cls, no_args_is_help=no_args_is_help, **options)

    def command(self, name: str | None = None, *, cls: type[TyperCommand] | None = Command, **options: Any) -> Any:
        """Registers a command."""
        return super().command(name, cls=cls, **options)
