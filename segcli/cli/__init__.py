"""The command line. Importing it imports neither torch nor an image library: `--help` answers at once.

Each command is one module, imported when the command is called, which imports what it works with when it works.
"""

from __future__ import annotations

import errno
import os
import re
from typing import Annotated, Any

import typer

from segcli import console
from segcli.cli.app import App, Group, Later
from segcli.errors import SegcliError

# Command, where it is, its line in `segcli --help`: the first sentence of its own help, which a test compares.
_COMMANDS = (
    (
        "predict",
        "predict:predict",
        "Segment images: an overlay to look at, an id map and a JSON file to work with, for each.",
    ),
    ("train", "train:train", "Train a model on the data in a folder, as it lies there."),
    (
        "eval",
        "eval:evaluate",
        "Measure a model, or predictions of any tool, as the official tools do: PQ, AP or mIoU.",
    ),
    (
        "export",
        "export:export",
        "Export a model to ONNX Runtime or OpenVINO, and check that it finds the same segments there.",
    ),
    (
        "bench",
        "bench:bench",
        "Time a model on this machine: the network, a photo, a step of training, in fp32 and native bf16. A minute.",
    ),
    ("models", "models:app", "List, download, check and convert models."),
    ("data", "data:app", "Check, convert, analyse and split datasets, in every format that `train` reads."),
    ("results", "results:app", "Work with what segcli predict has written."),
    ("visualize", "visualize:app", "Draw results, truth and what a model sees (short: viz)."),
)

_OUT_OF_MEMORY = re.compile("can't allocate memory|out of memory")  # torch's words


class _Group(Group):
    """The commands by name; turns what one of them raises into one line and an exit code, for all alike."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # `help`, which is hidden, is there already.
        for name, place, line in _COMMANDS:
            self.add_command(Later(name, f"segcli.cli.{place}", line))
        self.add_command(Later("viz", "segcli.cli.visualize:app", _COMMANDS[-1][2], hidden=True))

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
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not _OUT_OF_MEMORY.search(str(error)):
                raise
            console.error("not enough memory for this; close other programs, or use a smaller model or smaller files")
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
        commands = getattr(group, "commands", {})
        if word not in commands:
            raise UsageError(f"help {' '.join(words or ())}: no such command; there are {', '.join(commands)}")
        group, path = group.resolve_command(ctx, [word])[1], [*path, word]
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
