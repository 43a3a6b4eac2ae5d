"""`segcli train`: a folder of data in, a model out."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segcli import console
from segcli.cli import options
from segcli.cli.recipe_options import RUN, SPELLED, STEP, takes_settings
from segcli.console import Console
from segcli.errors import UsageError
from segcli.training.presets import PRESETS, PresetName

if TYPE_CHECKING:
    from segcli.data.records import DatasetInfo
    from segcli.distributed import Ranks
    from segcli.training.recipe import Recipe, Tables

SIGNALS = {"SIGINT": 130, "SIGTERM": 143}

DataArgument = Annotated[
    Path | None,
    typer.Argument(metavar="DATA", show_default=False, help="The folder with the images and their annotations."),
]
PreviewOption = Annotated[
    int | None,
    typer.Option(
        "--preview",
        metavar="N",
        min=1,
        show_default=False,
        help="Only write what the network would be shown: N images after augmentation, with their masks.",
        rich_help_panel=options.DATA,
    ),
]
PresetOption = Annotated[
    PresetName | None,
    typer.Option(
        "--preset",
        metavar="NAME",
        show_default=False,
        help=f"A published recipe: {', '.join(PRESETS)}; the first if not given.",
        rich_help_panel=STEP,
    ),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        show_default=False,
        help="A recipe in TOML, such as the config.toml of a run.",
        rich_help_panel=STEP,
    ),
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        *("--out", "-o"),
        metavar="DIR",
        show_default=False,
        callback=options.local,
        help="runs/DATA-n if not given.",
        rich_help_panel=RUN,
    ),
]
ResumeOption = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Continue the interrupted run in --out, or the last one in runs/.",
        rich_help_panel=RUN,
    ),
]
DevicesOption = Annotated[
    int | None,
    typer.Option(
        "--devices",
        metavar="N",
        min=1,
        show_default=False,
        help="Processes that share a step: one a GPU, or parts of the CPU (default 1; with --resume as before). "
        "torchrun works too.",
        rich_help_panel=options.SPEED,
    ),
]


@takes_settings
def train(
    given: dict[str, dict[str, Any]],  # tables of the recipe
    data: DataArgument = None,
    preview: PreviewOption = None,
    preset: PresetOption = None,
    config: ConfigOption = None,
    out: OutOption = None,
    resume: ResumeOption = False,
    devices: DevicesOption = None,
    threads: options.ThreadsOption = None,
    quiet: options.QuietOption = False,
) -> None:
    """Train a model on the data in a folder, as it lies there.

    segcli train data/

    segcli train --resume
    """
    say = Console(quiet=quiet)
    if data is not None:
        given.setdefault("data", {})["path"] = str(data)
    if resume and out is None:
        out = _unfinished(data)
        say.note(f"resuming {out}")
    recipe = _recipe(preset, config, given, out if resume else None)
    if recipe.data.path is None:
        raise UsageError("which data? give its folder: segcli train DATA")
    if out is None:
        out = _default_out(Path(recipe.data.path), preview is not None)
    if preview is not None:
        _preview(recipe, out, preview, say)
        return
    if recipe.run.log:  # said now rather than after the data were looked at
        from segcli.training.record.loggers import require

        require(recipe.run.log)
    from segcli.training.material import find_data

    info = find_data(recipe)  # before torch is imported, which takes two seconds
    launched = int(os.environ.get("WORLD_SIZE", "1")) > 1
    ranks = 1 if launched else devices or (_devices_of(out) if resume else 1)
    code = _spread(ranks, out, recipe.run.device) if ranks > 1 else _train(recipe, info, out, resume, threads, say)
    if code:
        raise typer.Exit(code)


def _recipe(preset: str | None, config: Path | None, given: Tables, resumed: Path | None) -> Recipe:
    """The recipe of a new run, or of the one in the folder `resumed`."""
    if resumed is not None:
        from segcli.training.resume import resumed_recipe

        return resumed_recipe(resumed, preset, config, given)
    from segcli.training.resolve import resolve

    return resolve(preset, config, given, SPELLED)


def _unfinished(data: Path | None) -> Path:
    """The run that --resume means without --out."""
    from segcli.training.record.run_files import last_unfinished

    return last_unfinished(Path("runs"), data)


def _default_out(data: Path, preview: bool) -> Path:
    if preview:
        return Path("segcli-preview")
    from segcli.training.record.run_files import default_folder

    return default_folder(data)


def _preview(recipe: Recipe, out: Path, images: int, say: Console) -> None:
    from segcli.training.session import preview

    for path in preview(recipe, out, images, say.note):
        say.say(path)


def _devices_of(run: Path) -> int:
    """How many processes began a run."""
    from segcli.training.record.run_files import devices_of

    return devices_of(run)


def _spread(devices: int, out: Path, device: str) -> int:
    """Run this command once a device. The folder is named here, or every rank would look for a free name."""
    from segcli.distributed import launch

    arguments = _without_devices(sys.argv[1:])
    if not any(a in ("--out", "-o") or a.startswith("--out=") for a in arguments):
        arguments += ["--out", str(out)]
    return launch(devices, arguments, device)


def _without_devices(arguments: list[str]) -> list[str]:
    kept, skip = [], False
    for argument in arguments:
        if skip or argument == "--devices":
            skip = not skip
        elif not argument.startswith("--devices="):
            kept.append(argument)
    return kept


def _train(recipe: Recipe, info: DatasetInfo, out: Path, resume: bool, threads: int | None, say: Console) -> int:
    """Open the run and show it to its end; -> the exit code."""
    from contextlib import closing, nullcontext

    import torch

    from segcli.cli.screens.data_screen import show_training
    from segcli.cli.screens.train_screen import TrainScreen
    from segcli.distributed import is_lost_peer, join, leave
    from segcli.files.locks import owned
    from segcli.training.memory import keep_freed_memory
    from segcli.training.record.loggers import Loggers

    keep_freed_memory()
    if threads:
        torch.set_num_threads(threads)
    ranks = join(recipe.run.device)
    if not ranks.is_first:
        say = Console(quiet=True)
    try:
        with owned(out, beside=True) if ranks.is_first else nullcontext():
            run = _open(recipe, info, out, ranks, resume, say)
            show_training(say, run.material.info, run.material.scan.train)
            with (
                TrainScreen(say, out) as screen,
                closing(Loggers(run.recipe if ranks.is_first else None, out, console.warning)) as loggers,
                closing(run.train()) as reports,
            ):
                for report in reports:
                    screen.show(report)
                    loggers.write(report)
        return SIGNALS.get(screen.why, 0)
    except RuntimeError as error:
        if ranks.size == 1 or not is_lost_peer(error):
            raise
        return 1
    finally:
        leave()


def _open(recipe: Recipe, info: DatasetInfo, out: Path, ranks: Ranks, resume: bool, say: Console) -> Any:
    from segcli.training.session import open_run

    with say.progress("looking at the data", None) as advance:

        def scanned(done: int, total: int) -> None:
            advance(1)

        return open_run(
            recipe,
            out,
            ranks,
            say.note,
            info=info,
            resume=resume,
            progress=lambda what, size: say.progress(what, size, bytes=True),
            scanned=scanned,
        )
