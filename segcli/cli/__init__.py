"""The command line. Importing it imports neither torch nor an image library: `--help` answers at once.

Each command is one module, which imports what it works with when it starts to work.
"""

from __future__ import annotations

import errno
import os
from typing import Annotated, Any

import typer

from segcli import console
from segcli.cli.app import App, Group
from segcli.cli.data import app as data_app
from segcli.cli.eval import evaluate
from segcli.cli.export import export
from segcli.cli.models import app as models_app
from segcli.cli.predict import predict
from segcli.cli.results import app as results_app
from segcli.cli.train import train
from segcli.cli.visualize import app as visualize_app
from segcli.errors import SegcliError


class _Group(Group):
    """Turns what a command raises into one line and an exit code, for every command alike."""

    def invoke(self, ctx: Any) -> Any:
        console.show_warnings()
        try:
            return super().invoke(ctx)
        except SegcliError as error:
            console.error(error)
            raise typer.Exit(error.exit_code) from error
        except OSError as error:
            if error.filename is None:  # stdout's own, which `segcli.__main__` words
                raise
            console.error(_of_file(error))
            raise typer.Exit(1) from error
        except KeyboardInterrupt as stop:
            raise typer.Exit(getattr(stop, "exit_code", 130)) from None


def _of_file(error: OSError) -> str:
    """What the system refused, for a file whose reader or writer has no words of its own."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    remedy = "free some space" if full else "check its permissions"
    # A file that is copied has two names, and the second is the one that is written.
    file = os.fsdecode(error.filename2 or error.filename)
    return f"{file}: {error.strerror or error}; {remedy} or choose another place"


app = App(
    name="segcli",
    cls=_Group,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(name="predict")(predict)
app.command(name="train")(train)
app.command(name="eval")(evaluate)
app.command(name="export")(export)
app.add_typer(models_app, name="models")
app.add_typer(data_app, name="data")
app.add_typer(results_app, name="results")
app.add_typer(visualize_app, name="visualize")
app.add_typer(visualize_app, name="viz", hidden=True)


@app.command(name="help", hidden=True)
def help_(
    ctx: typer.Context, words: Annotated[list[str] | None, typer.Argument(metavar="[COMMAND]...")] = None
) -> None:
    """Show the help of segcli, or of one of its commands: segcli help viz report."""
    from segcli.errors import UsageError

    root = ctx.find_root()
    group: Any = root.command
    path = ["segcli"]
    for word in words or ():
        found = getattr(group, "commands", {}).get(word)
        if found is None:
            raise UsageError(f"help {' '.join(words or ())}: no such command; there are {', '.join(group.commands)}")
        group, path = found, [*path, word]
    console.drawing(type(root)(group, info_name=" ".join(path)).get_help().splitlines())


def _print_version(value: bool) -> None:
    if value:
        import segcli

        console.result(f"segcli {segcli.__version__}")
        raise typer.Exit


@app.callback()
def segcli_command(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Panoptic, instance and semantic image segmentation with Mask2Former, fast on a CPU."""
