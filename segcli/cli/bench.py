"""`segcli bench`: how fast a model is on this machine."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from segcli import console
from segcli.cli import options
from segcli.cli.loading import load
from segcli.console import Column, Console

ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="[MODEL]",
        show_default=False,
        autocompletion=options.complete_model,
        help="A folder, a name from `segcli models list`, or org/name on the Hugging Face Hub; everyday if not given.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]


def bench(
    model: ModelArgument = "everyday",
    device: options.DeviceOption = "auto",
    threads: options.ThreadsOption = None,
    as_json: JsonOption = False,
    quiet: options.QuietOption = False,
) -> None:
    """Time a model on this machine: the network, a photo, a step of training, in fp32 and native bf16. A minute.

    segcli bench

    segcli bench facade --threads 1 --json
    """
    say = Console(quiet=quiet)
    loaded = load(model, None, device, "fp32", threads, say)

    from segcli.inspection.bench import bench as measure
    from segcli.inspection.bench import machine

    rows, facts = [], machine() | {"model": loaded.name, "device": str(loaded.device)}
    with say.progress("timing", None) as advance:
        for row in measure(loaded):
            rows.append(row)
            advance(1)
    if as_json:
        console.json_document(facts | {"rows": [asdict(row) for row in rows]})
        return
    say.note(", ".join(f"{name} {value}" for name, value in facts.items()))
    columns = [Column("What"), Column("Input"), Column("Precision"), Column("Seconds", numeric=True)]
    columns += [Column("Fastest", numeric=True), Column("Runs", numeric=True)]
    say.table(
        columns,
        [(r.what, r.input, r.dtype, f"{r.seconds:.3f}", f"{r.fastest:.3f}", r.runs) for r in rows],
        full="--json",
    )
