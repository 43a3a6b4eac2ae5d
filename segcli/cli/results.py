"""`segcli results`: work with the files of several runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segcli import console
from segcli.cli import options
from segcli.cli.app import App
from segcli.console import Console

app = App(help="Work with what segcli predict has written.", no_args_is_help=True)


@app.callback()
def results() -> None:
    """Work with what segcli predict has written."""


@app.command()
def merge(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The --out of the shards.", show_default=False)],
    quiet: options.QuietOption = False,
) -> None:
    """Join the files that the shards of one run have written for all photos; the parts are removed.

    segcli results merge segcli-out
    """
    from segcli.files.remote_folder import staged, url_of
    from segcli.results.shards import is_part
    from segcli.results.shards import merge as merge_shards

    if url := url_of(folder):
        with staged(url) as remote:
            console.alias(remote.local, remote.url)
            remote.fetch(is_part)
            merged = merge_shards(remote.local)
    else:
        merged = merge_shards(folder)
    say = Console(quiet=quiet)
    files = ", ".join(str(path) for path in merged.files) or "no files for all photos"
    say.note(f"{merged.shards} shards joined: {files}")
    if merged.failed:
        say.note(f"{merged.failed} images failed; segcli predict takes the list of them as its sources")
