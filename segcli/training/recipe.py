"""How to train, as data: flat TOML tables that a preset fills, a file may change and options override.

The tables of `presets/small.toml` are the defaults and name every key; another preset or a `--config` file names what
it changes. What a run really used is written into its folder in the same form and can be given back. Torch-free.
"""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from sys import float_info
from typing import Any, Literal, get_args, get_origin, get_type_hints

from segcli.config import MODEL_TYPES
from segcli.config.mask2former import Mask2FormerConfig
from segcli.errors import UsageError
from segcli.types import SMALLEST_TILE, Task

PRESETS = ("small", "coco-50ep", "ade-160k", "cityscapes-90k")
Tables = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class ModelTable:
    """What is trained: a checkpoint (`start`) or a network around an ImageNet backbone (`backbone`), exactly one.

    arch: the architecture of a new network (None: mask2former). The sizes hold for a new network too; None is what goes
    with the backbone. queries holds for both.
    """

    arch: str | None = None
    start: str | None = None
    backbone: str | None = None
    freeze_backbone: bool = False
    queries: int | None = None
    hidden_dim: int | None = None
    encoder_layers: int | None = None
    encoder_feedforward_dim: int | None = None
    decoder_layers: int | None = None
    dim_feedforward: int | None = None


@dataclass(frozen=True)
class DataTable:
    """path, format, task: as detected unless given. short, long: size in prediction and validation (None: from the
    images). tile: predict in square windows of so many pixels of the photo, each resized to `short`; augmentation is
    at that scale. tile_for: short side of the photos that `tile` is meant for, in others it grows with theirs (None: as
    many pixels in every photo)."""

    path: str | None = None
    format: str | None = None
    task: Task | None = None
    short: int | None = None
    long: int | None = None
    tile: int | None = None
    tile_for: int | None = None


@dataclass(frozen=True)
class AugmentTable:
    """kind: what `scale`, a range of random factors, is relative to: "jitter" to the size in prediction, "fit" to the
    size that just fits the crop (COCO's recipe), "native" to the image's own; "short-side" takes 16 fixed sizes in
    `scale` × the size in prediction, and crops again while one class fills more than `max_class_share` (ADE20K's).
    crop: height, width in pixels (None: from the size in prediction). flip: probability."""

    kind: Literal["jitter", "fit", "native", "short-side"]
    scale: tuple[float, float]
    crop: tuple[int, int] | None = None
    max_class_share: float = 1.0
    flip: float = 0.5
    colour: bool = True


@dataclass(frozen=True)
class ScheduleTable:
    """steps or epochs: the length; epochs make at least `least_steps`, and a run notes both (then steps hold). batch:
    images a device and micro-batch; 0 finds what fits. reference_batch: images a step that `lr` is for; another number
    scales it, unless this is 0. milestones: shares of the run (step)."""

    batch: int
    accumulate: int
    lr: float
    backbone_lr: float
    reference_batch: int
    weight_decay: float
    clip: float
    ema: float
    schedule: Literal["poly", "step", "constant"]
    warmup: int
    steps: int | None = None
    epochs: float | None = None
    least_steps: int = 0
    power: float = 0.9
    milestones: tuple[float, ...] = (0.889, 0.963)


@dataclass(frozen=True)
class LossTable:
    """The objective. points, oversample, importance: where Mask2Former compares masks and takes losses (arXiv
    2112.01527, §3.3); the other architectures do so at all pixels. Weights: None is the architecture's paper's.
    pilots: mask-piloted queries beside the learnable ones (arXiv 2303.07336), Mask2Former only."""

    points: int
    oversample: float
    importance: float
    class_weight: float | None = None
    mask_weight: float | None = None
    dice_weight: float | None = None
    box_weight: float | None = None
    giou_weight: float | None = None
    no_object_weight: float | None = None
    pilots: bool = False


@dataclass(frozen=True)
class ValidateTable:
    """every: steps between validations (None: about ten in a run). patience: validations without a better metric
    before stopping; 0 never. images: use only the first so many; 0 all. score: a query's least score in the PQ."""

    every: int | None
    patience: int
    images: int
    score: float


@dataclass(frozen=True)
class RunTable:
    """seed; precision of the network; steps between checkpoints (None: at every validation, and at least every five
    minutes); bad batches in a row that end the run."""

    seed: int
    precision: Literal["fp32", "bf16", "fp16", "auto"]
    device: Literal["auto", "cpu", "cuda", "mps"]
    workers: int
    checkpoint_every: int | None
    give_up_after: int
    tensorboard: bool


@dataclass(frozen=True)
class Recipe:
    """All tables."""

    model: ModelTable
    data: DataTable
    augment: AugmentTable
    schedule: ScheduleTable
    loss: LossTable
    validate: ValidateTable
    run: RunTable
    preset: str = "small"


_TABLES: dict[str, Any] = {
    name: hint for name, hint in get_type_hints(Recipe).items() if dataclasses.is_dataclass(hint)
}
_OPTIONAL_BASE: Tables = {"validate": {"every": None}, "run": {"checkpoint_every": None}}


def read_preset(name: str) -> Tables:
    """The tables of a preset. Raises UsageError listing the presets there are."""
    if name not in PRESETS:
        raise UsageError(f"--preset {name}: choose one of {', '.join(PRESETS)}")
    text = resources.files("segcli.training").joinpath(f"presets/{name}.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def read_tables(path: Path) -> Tables:
    """The tables of a `--config` file. Raises UsageError for what is not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--config {path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not valid TOML ({error})") from error


def resolve(preset: str | None, config: Path | None, options: Tables) -> Recipe:
    """small ← preset ← config file ← options, later ones winning. Unknown keys and wrong types are UsageErrors."""
    given = read_tables(config) if config else {}
    chosen = preset or given.get("preset") or "small"
    if not isinstance(chosen, str):
        raise UsageError(f"{config}: preset is {chosen!r}; expected a name")
    layers = [
        ("presets/small.toml", read_preset("small")),
        (f"presets/{chosen}.toml", read_preset(chosen)),
        (str(config), {key: value for key, value in given.items() if key != "preset"}),
        ("options", options),
    ]
    merged: Tables = {name: dict(_OPTIONAL_BASE.get(name, {})) for name in _TABLES}
    for where, tables in layers:
        check_tables(tables, where)
        for name, table in tables.items():
            merged[name] |= {key: _tuple(value) for key, value in table.items()}
            _settle_rivals(merged[name], name, table)
    recipe = Recipe(**{name: kind(**merged[name]) for name, kind in _TABLES.items()}, preset=chosen)
    _check_values(recipe)
    return recipe


def _settle_rivals(merged: dict[str, Any], name: str, layer: Mapping[str, Any]) -> None:
    """Of two keys that exclude each other the one named last holds."""
    for one, other in {"model": [("start", "backbone")], "schedule": [("steps", "epochs")]}.get(name, []):
        for key, rival in ((one, other), (other, one)):
            if layer.get(key) is not None and layer.get(rival) is None:
                merged[rival] = None


def check_tables(tables: Mapping[str, Any], where: str) -> None:
    """Raises UsageError for an unknown table or key, or a value of another type than the key's."""
    for name, table in tables.items():
        if name not in _TABLES or not isinstance(table, Mapping):
            raise UsageError(f"{where}: unknown table or key {name!r}; the tables are {', '.join(_TABLES)}")
        hints = get_type_hints(_TABLES[name])
        for key, value in table.items():
            if key not in hints:
                raise UsageError(f"{where}: [{name}] has no key {key!r}; it has {', '.join(hints)}")
            if not _fits(value, hints[key]):
                raise UsageError(f"{where}: [{name}] {key} = {value!r}; expected {_describe(hints[key])}")


# Least and greatest value, and the keys they hold for; of a list, for each entry.
_TINY, _ANY = float_info.min, float_info.max
_RANGES: tuple[tuple[float, float, dict[str, str]], ...] = (
    (
        0,
        _ANY,
        {
            "model": "encoder_layers",
            "schedule": "batch backbone_lr reference_batch weight_decay clip warmup least_steps power",
            "loss": "class_weight mask_weight dice_weight box_weight giou_weight",
            "validate": "patience images",
        },
    ),
    (_TINY, _ANY, {"augment": "scale", "schedule": "lr epochs", "loss": "no_object_weight"}),
    (0, 1, {"augment": "flip", "schedule": "milestones", "loss": "importance", "validate": "score"}),
    (_TINY, 1, {"augment": "max_class_share"}),
    (0, 1 - float_info.epsilon, {"schedule": "ema"}),
    (
        1,
        _ANY,
        {
            "model": "queries encoder_feedforward_dim decoder_layers dim_feedforward",
            "data": "short long tile_for",
            "schedule": "accumulate steps",
            "loss": "points oversample",
            "validate": "every",
            "run": "checkpoint_every give_up_after",
        },
    ),
    (32, _ANY, {"model": "hidden_dim", "augment": "crop"}),
    (0, 2**63 - 1, {"run": "seed"}),
    (-1, _ANY, {"run": "workers"}),
)


def _check_values(recipe: Recipe) -> None:
    for low, high, keys in _RANGES:
        for name, key in ((table, key) for table, some in keys.items() for key in some.split()):
            value = getattr(getattr(recipe, name), key)
            for number in value if isinstance(value, tuple) else (value,):
                if number is not None and not low <= number <= high:  # NaN neither
                    raise UsageError(f"[{name}] {key} = {number}; it must be {_limits(low, high)}")
    if recipe.data.tile is not None and recipe.data.tile < SMALLEST_TILE:
        raise UsageError(f"--tile {recipe.data.tile}: tiles need at least {SMALLEST_TILE} pixels")
    if recipe.data.tile is not None and recipe.augment.kind != "jitter":
        raise UsageError(
            f"--tile {recipe.data.tile}: [augment] kind = {recipe.augment.kind!r} would learn at another scale than it "
            "predicts; use the preset small, or kind = 'jitter'"
        )
    model = recipe.model
    if model.arch not in (None, *MODEL_TYPES):
        raise UsageError(f"--arch {model.arch}: choose one of {', '.join(MODEL_TYPES)}")
    masked = model.arch in (None, Mask2FormerConfig.model_type)
    if masked and model.decoder_layers is not None and model.decoder_layers < 3:
        raise UsageError("[model] decoder_layers: at least 3, one for each level of the pixel decoder")
    if model.hidden_dim is not None and model.hidden_dim % 32:
        raise UsageError("[model] hidden_dim: a multiple of 32, which is shared among heads and norm groups")
    low, high = recipe.augment.scale
    if low > high:
        raise UsageError(f"[augment] scale = [{low}, {high}]; expected two factors, the smaller first")


def _limits(low: float, high: float) -> str:
    least = "above 0" if low == _TINY else f"at least {low:g}"
    return least if high == _ANY else f"{least} and {'below 1' if high < 1 else f'at most {high:g}'}"


def _fits(value: Any, hint: Any) -> bool:
    if value is None:
        return type(None) in get_args(hint)
    if get_origin(hint) in (types.UnionType, typing.Union):
        return any(_fits(value, part) for part in get_args(hint) if part is not type(None))
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) is tuple:
        parts = get_args(hint)
        is_open = parts[-1] is Ellipsis
        return (
            isinstance(value, list | tuple)
            and (is_open or len(value) == len(parts))
            and all(
                _fits(item, parts[0] if is_open else part)
                for item, part in zip(value, parts * len(value), strict=False)
            )
        )
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


def _describe(hint: Any) -> str:
    if get_origin(hint) in (types.UnionType, typing.Union):
        return " or ".join(_describe(part) for part in get_args(hint) if part is not type(None))
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, get_args(hint)))
    if get_origin(hint) is tuple:
        return "a list of " + " and ".join(_describe(part) for part in get_args(hint) if part is not Ellipsis)
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a string"}[hint]


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def to_tables(recipe: Recipe) -> Tables:
    """The recipe as plain tables, without what is None."""
    return {
        name: {key: value for key, value in dataclasses.asdict(getattr(recipe, name)).items() if value is not None}
        for name in _TABLES
    }


def to_toml(recipe: Recipe) -> str:
    """The recipe as a `--config` file."""
    lines = [f"preset = {_toml(recipe.preset)}"]
    for name, table in to_tables(recipe).items():
        lines += ["", f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escaped = "".join(f"\\u{ord(c):04x}" if ord(c) < 32 or c in '"\\\x7f' else c for c in value)
        return f'"{escaped}"'
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_toml, value))}]"
    return repr(value)
