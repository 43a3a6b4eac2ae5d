"""`segcli train`: a folder of data in, a model out."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from segcli.cli import options
from segcli.config import MODEL_TYPES
from segcli.config.backbones import PRETRAINED
from segcli.config.mask2former import Mask2FormerConfig
from segcli.console import Console
from segcli.errors import UsageError

if TYPE_CHECKING:
    from segcli.distributed import Ranks
    from segcli.training.recipe import Recipe, Tables

LENGTH, START, STEP = "How long", "Where to start", "The training step"
RUN = "The run's folder"
SIGNALS = {"SIGINT": 130, "SIGTERM": 143}


class PresetName(StrEnum):
    """The published recipes, and the default."""

    small = "small"
    coco = "coco-50ep"
    ade = "ade-160k"
    cityscapes = "cityscapes-90k"


class Precision(StrEnum):
    """In which precision the network computes; matching and losses are always fp32."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


class Frozen(StrEnum):
    """What is not trained."""

    backbone = "backbone"


def _option(*names: str, help: str, panel: str, metavar: str | None = None, **limits: Any) -> Any:
    """An option that is None unless it is given: then preset and --config decide."""
    return typer.Option(None, *names, help=help, rich_help_panel=panel, metavar=metavar, show_default=False, **limits)


def _flag(name: str, help: str, panel: str) -> Any:
    return typer.Option(False, name, help=help, rich_help_panel=panel)


def train(
    data: Path | None = typer.Argument(
        None, metavar="DATA", show_default=False, help="The folder with the images and their annotations."
    ),
    format: str | None = _option(
        "--format", metavar="NAME", help="The data's format, if it is not clear.", panel=options.DATA
    ),
    task: options.TaskName | None = _option(
        "--task", "-t", metavar="TASK", help="If not the data's own.", panel=options.DATA
    ),
    preview: int | None = _option(
        "--preview",
        metavar="N",
        min=1,
        help="Only write what the network would be shown: N images after augmentation, with their masks.",
        panel=options.DATA,
    ),
    model: str | None = _option(
        "--model",
        "-m",
        metavar="REF",
        autocompletion=options.complete_model,
        help="A folder, a name from `segcli models list`, or org/name on the Hub; its class layer is made anew.",
        panel=START,
    ),
    backbone: str | None = _option(
        "--backbone",
        metavar="NAME",
        help=f"A new model around a backbone with published weights: {', '.join(PRETRAINED)}.",
        panel=START,
    ),
    arch: str | None = _option(
        "--arch",
        metavar="NAME",
        help=f"Architecture of a new model: {', '.join(MODEL_TYPES)}; {Mask2FormerConfig.model_type} if not given.",
        panel=START,
    ),
    queries: int | None = _option(
        "--queries", metavar="N", min=1, help="Objects it can tell apart in an image.", panel=START
    ),
    freeze: Frozen | None = _option("--freeze", help="Keep these weights as they are.", panel=START),
    max_steps: int | None = _option("--max-steps", metavar="N", min=1, help="Updates of the weights.", panel=LENGTH),
    epochs: float | None = _option("--epochs", metavar="N", min=0.001, help="Times every image is seen.", panel=LENGTH),
    patience: int | None = _option(
        "--patience", metavar="N", min=0, help="Stop after N validations that found nothing better.", panel=LENGTH
    ),
    validate_every: int | None = _option(
        "--validate-every", metavar="STEPS", min=1, help="About ten times a run if not given.", panel=LENGTH
    ),
    preset: PresetName | None = _option("--preset", help="A published recipe; small if not given.", panel=STEP),
    config: Path | None = _option(
        "--config", metavar="FILE", help="A recipe in TOML, such as the config.toml of a run.", panel=STEP
    ),
    batch: str | None = _option(
        "--batch", metavar="N|auto", help="Images at once on a device; auto: what fits.", panel=STEP
    ),
    accumulate: int | None = _option(
        "--accumulate", metavar="N", min=1, help="Batches before an update, as if they were one.", panel=STEP
    ),
    lr: float | None = _option(
        "--lr", metavar="RATE", min=0, help="Learning rate, as it is; else scaled with the batch.", panel=STEP
    ),
    crop: int | None = _option("--crop", metavar="PIXELS", min=32, help="Side of the training crops.", panel=STEP),
    short_side: int | None = _option(
        "--short-side", metavar="PIXELS", min=32, help="Of images, or of tiles, in prediction.", panel=STEP
    ),
    tile: int | None = _option(
        "--tile",
        metavar="PIXELS",
        min=64,
        help="Learn from and predict in square tiles of this side: for many or small objects.",
        panel=STEP,
    ),
    points: int | None = _option("--points", metavar="N", min=16, help="Where masks are compared.", panel=STEP),
    ema: float | None = _option(
        "--ema", metavar="DECAY", min=0, max=0.99999, help="Average of the weights; 0 for none.", panel=STEP
    ),
    seed: int | None = _option("--seed", metavar="N", min=0, help="Of everything random.", panel=STEP),
    out: Path | None = _option("--out", "-o", metavar="DIR", help="runs/DATA-n if not given.", panel=RUN),
    resume: bool = _flag("--resume", "Go on with the interrupted run in --out.", RUN),
    checkpoint_every: int | None = _option(
        "--checkpoint-every", metavar="STEPS", min=1, help="And at validations; else every 5 minutes.", panel=RUN
    ),
    tensorboard: bool = _flag("--tensorboard", "Write event files too (needs the package tensorboard).", RUN),
    precision: Precision | None = _option("--precision", help="auto: bf16 where it is fast.", panel=options.SPEED),
    device: options.DeviceName | None = _option("--device", help="Where to compute.", panel=options.SPEED),
    devices: int | None = typer.Option(
        None,
        "--devices",
        metavar="N",
        min=1,
        help="Processes that share a step: one a GPU, or parts of the CPU (default 1; with --resume as before). "
        "torchrun works too.",
        rich_help_panel=options.SPEED,
    ),
    workers: int | None = _option(
        "--workers", metavar="N", min=0, help="Processes that load images; the result is the same.", panel=options.SPEED
    ),
    threads: options.ThreadsOption = None,
    quiet: options.QuietOption = False,
) -> None:
    """Train a model on the data in a folder, as it lies there.

    segcli train data/

    segcli train --resume --out runs/data-1
    """
    _refuse_contradictions(model=model, backbone=backbone, max_steps=max_steps, epochs=epochs)
    tables: Tables = {
        "model": {
            "arch": arch,
            "start": model,
            "backbone": backbone,
            "queries": queries,
            "freeze_backbone": True if freeze else None,
        },
        "data": {
            "path": data and str(data),
            "format": format,
            "task": task and task.value,
            "short": short_side,
            "tile": tile,
        },
        "augment": {"crop": crop and [crop, crop]},
        "schedule": {
            "steps": max_steps,
            "epochs": epochs,
            "least_steps": 0 if epochs else None,
            "batch": _batch(batch),
            "accumulate": accumulate,
            "lr": lr,
            "reference_batch": None if lr is None else 0,
            "ema": ema,
        },
        "loss": {"points": points},
        "validate": {"every": validate_every, "patience": patience},
        "run": {
            "seed": seed,
            "precision": precision and precision.value,
            "device": device and device.value,
            "workers": workers,
            "checkpoint_every": checkpoint_every,
            "tensorboard": tensorboard or None,
        },
    }
    given = {name: {k: v for k, v in table.items() if v is not None} for name, table in tables.items()}
    say = Console(quiet=quiet)
    if resume and out is None:
        raise UsageError("--resume: which run? give its folder with --out")
    recipe = _recipe(preset and preset.value, config, given, out if resume else None)
    if recipe.data.path is None:
        raise UsageError("which data? give its folder: segcli train DATA")
    if out is None:
        out = _default_out(Path(recipe.data.path), preview is not None)
    if preview is not None:
        _preview(recipe, out, preview, say)
        return
    if recipe.run.tensorboard:  # said now rather than after the data were looked at
        from segcli.training.tensorboard import require_tensorboard

        require_tensorboard()
    launched = int(os.environ.get("WORLD_SIZE", "1")) > 1
    ranks = 1 if launched else devices or (_devices_of(out) if resume else 1)
    code = _spread(ranks, out, recipe.run.device) if ranks > 1 else _train(recipe, out, resume, threads, say)
    if code:
        raise typer.Exit(code)


def _refuse_contradictions(**given: object) -> None:
    if given["model"] is not None and given["backbone"] is not None:
        raise UsageError("--model and --backbone: a checkpoint has its backbone already; give one of them")
    if given["max_steps"] is not None and given["epochs"] is not None:
        raise UsageError("--max-steps and --epochs: both say how long; give one of them")


def _recipe(preset: str | None, config: Path | None, given: Tables, resumed: Path | None) -> Recipe:
    """The recipe of a new run, or of the one in the folder `resumed`."""
    if resumed is not None:
        from segcli.training.session import resumed_recipe

        return resumed_recipe(resumed, preset, config, given)
    from segcli.training.resolve import resolve

    return resolve(preset, config, given)


def _batch(text: str | None) -> int | None:
    """0 stands for auto."""
    if text is None or text == "auto":
        return None if text is None else 0
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--batch {text}: expected a number of images, or auto")
    return int(text)


def _default_out(data: Path, preview: bool) -> Path:
    if preview:
        return Path("segcli-preview")
    from segcli.training.run_folder import default_folder

    return default_folder(data)


def _preview(recipe: Recipe, out: Path, images: int, say: Console) -> None:
    from segcli.training.session import preview

    for path in preview(recipe, out, images, say.note):
        say.say(path)


def _devices_of(run: Path) -> int:
    """How many processes began a run."""
    from segcli.training.session import devices_of

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


def _train(recipe: Recipe, out: Path, resume: bool, threads: int | None, say: Console) -> int:
    """Open the run and show it to its end; -> the exit code."""
    from contextlib import closing

    import torch

    from segcli.cli.data_screen import show_training
    from segcli.cli.train_screen import TrainScreen
    from segcli.distributed import is_lost_peer, join, leave
    from segcli.training.memory import keep_freed_memory

    keep_freed_memory()
    if threads:
        torch.set_num_threads(threads)
    ranks = join(recipe.run.device)
    if not ranks.is_first:
        say = Console(quiet=True)
    try:
        run = _open(recipe, out, ranks, resume, say)
        show_training(say, run.material.info, run.material.scan.train)
        with (
            TrainScreen(say, out, recipe.run.tensorboard and ranks.is_first) as screen,
            closing(run.train()) as reports,
        ):
            for report in reports:
                screen.show(report)
        return SIGNALS.get(screen.why, 0)
    except RuntimeError as error:
        if ranks.size == 1 or not is_lost_peer(error):
            raise
        return 1
    finally:
        leave()


def _open(recipe: Recipe, out: Path, ranks: Ranks, resume: bool, say: Console) -> Any:
    from segcli.training.session import open_run

    with say.progress("looking at the data", None) as advance:

        def scanned(done: int, total: int) -> None:
            advance(1)

        return open_run(
            recipe,
            out,
            ranks,
            say.note,
            resume=resume,
            progress=lambda what, size: say.progress(what, size, bytes=True),
            scanned=scanned,
        )
