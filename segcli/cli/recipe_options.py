"""The options of `segcli train` that set a key of the recipe. Each names its key; nothing else lists them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import typer

from segcli.cli import options
from segcli.config import MODEL_TYPES
from segcli.config.backbones import PRETRAINED
from segcli.config.mask2former import Mask2FormerConfig
from segcli.data.formats import names as format_names
from segcli.errors import UsageError
from segcli.types import Device, Precision, Task

LENGTH, START, STEP = "How long", "Where to start", "The training step"
RUN = "The run's folder"
_PANELS = (None, options.DATA, START, LENGTH, STEP, RUN, options.SPEED, options.TALK)  # in the order of --help


@dataclass(frozen=True)
class Setting:
    """An option and the key of the recipe that it sets."""

    key: tuple[str, str]  # table, key
    kind: Any  # what Typer reads the option as
    names: tuple[str, ...]  # of the option, --such-an-option first
    option: typer.models.OptionInfo
    to_value: Callable[[Any], Any] = lambda given: given  # from the option's value to the key's
    more: Mapping[tuple[str, str], Any] = field(default_factory=dict)  # other keys that giving it sets

    @property
    def spelling(self) -> str:
        """--such-an-option."""
        return self.names[0]

    @property
    def name(self) -> str:
        """such_an_option."""
        return self.spelling.lstrip("-").replace("-", "_")


def _setting(
    key: str,
    kind: Any,
    *names: str,
    help: str,
    panel: str,
    to_value: Callable[[Any], Any] = lambda given: given,
    more: Mapping[tuple[str, str], Any] = {},
    **limits: Any,
) -> Setting:
    """An option that is None unless it is given: then preset and --config decide."""
    option = typer.Option(*names, help=help, rich_help_panel=panel, show_default=False, **limits)
    table, _, entry = key.partition(".")
    return Setting((table, entry), kind, names, option, to_value, more)


def _batch(text: str) -> int:
    """0 stands for auto."""
    if text != "auto" and (not text.isdecimal() or int(text) < 1):
        raise UsageError(f"--batch {text}: expected a number of images, or auto")
    return 0 if text == "auto" else int(text)


SETTINGS = (
    _setting(
        "data.format", str, "--format", metavar="NAME", panel=options.DATA,
        help=f"The data's format, if it is not clear: {', '.join(format_names())}.",
    ),
    _setting(
        "data.binary", bool, "--binary", panel=options.DATA,
        help="Label maps are black and white: what is lighter than half is the object.",
    ),
    _setting("data.task", Task, "--task", "-t", metavar="TASK", panel=options.DATA, help="If not the data's own."),
    _setting(
        "model.start", str, "--model", "-m", metavar="REF", panel=START, autocompletion=options.complete_model,
        help="A folder, a name from `segcli models list`, or org/name on the Hub; other classes get a new class layer.",
    ),
    _setting(
        "model.backbone", str, "--backbone", metavar="NAME", panel=START,
        help=f"A new model around a backbone with published weights: {', '.join(PRETRAINED)}.",
    ),
    _setting(
        "model.arch", str, "--arch", metavar="NAME", panel=START,
        help=f"Architecture of a new model: {', '.join(MODEL_TYPES)}; {Mask2FormerConfig.model_type} if not given.",
    ),
    _setting("model.queries", int, "--queries", metavar="N", panel=START, help="Objects it can tell apart."),
    _setting(
        "model.freeze_backbone", Literal["backbone"], "--freeze", panel=START, to_value=bool,
        help="Keep these weights as they are.",
    ),
    _setting("schedule.steps", int, "--max-steps", metavar="N", panel=LENGTH, help="Updates of the weights."),
    _setting(
        "schedule.epochs", float, "--epochs", metavar="N", panel=LENGTH, more={("schedule", "least_steps"): 0},
        help="Times every image is seen.",
    ),
    _setting(
        "validate.patience", int, "--patience", metavar="N", panel=LENGTH,
        help="Stop after N validations that found nothing better; 0: never.",
    ),
    _setting(
        "validate.every", int, "--validate-every", metavar="STEPS", panel=LENGTH,
        help="Steps between validations; about ten in a run if not given.",
    ),
    _setting(
        "schedule.batch", str, "--batch", metavar="N|auto", panel=STEP, to_value=_batch,
        help="Images at once on a device; auto: as many as memory holds.",
    ),
    _setting(
        "schedule.accumulate", int, "--accumulate", metavar="N", panel=STEP,
        help="Batches before an update, as if they were one.",
    ),
    _setting(
        "schedule.lr", float, "--lr", metavar="RATE", panel=STEP, more={("schedule", "reference_batch"): 0},
        help="Learning rate, as it is; if not given, it is scaled with the batch.",
    ),
    _setting(
        "augment.crop", int, "--crop", metavar="PIXELS", panel=STEP, min=32, to_value=lambda side: [side, side],
        help="Side of the training crops.",
    ),
    _setting(
        "data.short", int, "--short-side", metavar="PIXELS", panel=STEP, min=32,
        help="Of images, or of tiles, in prediction.",
    ),
    _setting(
        "data.tile", int, "--tile", metavar="PIXELS", panel=STEP,
        help="Learn from and predict in square tiles of this side: for many or small objects.",
    ),
    _setting("loss.points", int, "--points", metavar="N", panel=STEP, min=16, help="Where masks are compared."),
    _setting(
        "loss.teacher", str, "--teacher", metavar="REF", panel=STEP, autocompletion=options.complete_model,
        help="Learn from the answers of a better model too; it must know the same classes.",
    ),
    _setting("schedule.ema", float, "--ema", metavar="DECAY", panel=STEP, help="Average of the weights; 0 for none."),
    _setting("run.seed", int, "--seed", metavar="N", panel=STEP, help="Of everything random."),
    _setting(
        "run.checkpoint_every", int, "--checkpoint-every", metavar="STEPS", panel=RUN,
        help="Steps between checkpoints, beside those at validations; every 5 minutes if not given.",
    ),
    _setting(
        "run.log", str, "--log", metavar="NAMES", panel=RUN, to_value=lambda names: names.split(","),
        help="Send the numbers to experiment trackers too, with commas between: tensorboard, wandb, mlflow, trackio.",
    ),
    _setting("run.dtype", Precision, "--dtype", panel=options.SPEED, help="Precision; auto: bf16 where it is fast."),
    _setting("run.device", Device, "--device", panel=options.SPEED, help="Where to compute."),
    _setting(
        "run.workers", int, "--workers", metavar="N", min=0, panel=options.SPEED,
        help="Processes that load images; the result is the same.",
    ),
)  # fmt: skip
SPELLED = {setting.key: setting.spelling for setting in SETTINGS}


def takes_settings(command: Callable[..., None]) -> Callable[..., None]:
    """A command with every setting as an option; its argument `given` gets the tables of those that were given."""

    @functools.wraps(command)
    def wrapped(**arguments: Any) -> None:
        given: dict[str, dict[str, Any]] = {}
        for setting in SETTINGS:
            value = arguments.pop(setting.name)
            if value is not None:
                for (table, key), entry in {setting.key: setting.to_value(value), **setting.more}.items():
                    given.setdefault(table, {})[key] = entry
        command(given=given, **arguments)

    own = [p for name, p in inspect.signature(command, eval_str=True).parameters.items() if name != "given"]
    theirs = [
        inspect.Parameter(
            setting.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[setting.kind | None, setting.option],
        )
        for setting in SETTINGS
    ]
    parameters = sorted([p.replace(kind=p.KEYWORD_ONLY) for p in own] + theirs, key=_place)
    wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {p.name: p.annotation for p in parameters}
    return wrapped


def _place(parameter: inspect.Parameter) -> int:
    """Where an option's panel stands in --help."""
    return _PANELS.index(parameter.annotation.__metadata__[0].rich_help_panel)
