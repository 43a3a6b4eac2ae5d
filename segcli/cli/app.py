"""How commands and their groups look in help: an option that takes no value shows none."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


class _PlainFlags:
    """Typer ≥ 0.20 writes `<bool>` beside --quiet, and beside --help."""

    def get_params(self, ctx: Any) -> list[Any]:
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]  # of the command that this is mixed into
        for param in params:
            if getattr(param, "is_flag", False) and param.metavar is None:
                param.metavar = ""
        return params


class Command(_PlainFlags, TyperCommand):
    """A command."""


class Group(_PlainFlags, TyperGroup):
    """Some commands under one name."""


class App(typer.Typer):
    """Typer with these."""

    def __init__(self, *, cls: type[TyperGroup] = Group, no_args_is_help: bool = True, **options: Any) -> None:
        super().__init__(cls=cls, no_args_is_help=no_args_is_help, **options)

    def command(self, name: str | None = None, *, cls: type[TyperCommand] | None = Command, **options: Any) -> Any:
        """Registers a command."""
        return super().command(name, cls=cls, **options)
