"""Recipes: layers of TOML, strict about names and types, and written such that they read back."""

from __future__ import annotations

import tomllib
from dataclasses import fields, replace
from pathlib import Path
from typing import get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segcli.cli.recipe_options import SETTINGS, SPELLED
from segcli.errors import UsageError
from segcli.training.presets import PRESETS, read_preset
from segcli.training.recipe import Recipe, to_tables, to_toml
from segcli.training.resolve import resolve


def _file(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_resolve_and_read_back(preset: str, tmp_path: Path) -> None:
    recipe = resolve(preset, None, {"data": {"path": "somewhere"}, "model": {"backbone": "lite0"}})
    assert resolve(None, _file(tmp_path, to_toml(recipe)), {}) == recipe


@given(st.text(), st.floats(1e-9, 1e9), st.booleans())
def test_any_text_and_number_reads_back(path: str, lr: float, colour: bool) -> None:
    recipe = resolve(None, None, {"data": {"path": path}, "schedule": {"lr": lr}, "augment": {"colour": colour}})
    read = tomllib.loads(to_toml(recipe))
    assert read["data"]["path"] == path
    assert read["schedule"]["lr"] == lr
    assert read["augment"]["colour"] is colour


def test_published_settings() -> None:
    coco = resolve("coco-50ep", None, {})
    assert (coco.schedule.steps, coco.schedule.lr, coco.schedule.reference_batch) == (368_750, 1e-4, 16)
    assert (coco.augment.crop, coco.augment.scale, coco.augment.colour) == ((1024, 1024), (0.1, 2.0), False)
    assert coco.loss.points == 12_544
    assert coco.schedule.epochs is None  # small's epochs give way
    cityscapes = resolve("cityscapes-90k", None, {})
    assert (cityscapes.schedule.steps, cityscapes.augment.crop) == (90_000, (512, 1024))
    assert resolve("ade-160k", None, {}).augment.kind == "short-side"


def test_what_comes_later_wins(tmp_path: Path) -> None:
    config = _file(tmp_path, 'preset = "ade-160k"\n[schedule]\nlr = 3e-5\nbatch = 8\n')
    recipe = resolve(None, config, {"schedule": {"batch": 1, "epochs": 2.0}})
    assert recipe.preset == "ade-160k"
    assert (recipe.schedule.lr, recipe.schedule.batch) == (3e-5, 1)
    assert (recipe.schedule.steps, recipe.schedule.epochs) == (None, 2.0)


def test_earlier_runs_can_be_read(tmp_path: Path) -> None:
    """Their [run] has other names; both at once are a mistake."""
    run = resolve(None, _file(tmp_path, '[run]\nprecision = "bf16"\ntensorboard = true\n'), {}).run
    assert (run.dtype, run.log) == ("bf16", ("tensorboard",))
    with pytest.raises(UsageError, match="has no key 'precision'"):
        resolve(None, _file(tmp_path, '[run]\nprecision = "bf16"\ndtype = "fp32"\n'), {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[schedule]\nlearning_rate = 1", r"\[schedule\] has no key 'learning_rate'; it has batch"),
        ("[optimizer]\nlr = 1", "unknown table or key 'optimizer'"),
        ("lr = 1", "unknown table or key 'lr'"),
        ("[schedule]\nlr = 'fast'", r"\[schedule\] lr = 'fast'; expected a number above 0"),
        ("[schedule]\nbatch = 2.5", "batch = 2.5; expected a whole number of at least 0"),
        ("[schedule]\nbatch = true", "batch = true; expected a whole number"),
        ("[augment]\ncrop = [64]", r"crop = \[64\]; expected a list of 2, each a whole number of at least 32"),
        ("[augment]\nkind = 'mosaic'", "expected one of jitter, fit, native, short-side"),
        ("[augment]\nscale = [2.0, 0.5]", "two factors, the smaller first"),
        ("[schedule]\nlr = 0", "lr = 0; expected a number above 0"),
        ("[schedule]\nlr = nan", "lr = nan; expected a number above 0"),
        ("[schedule]\nema = 1", "ema = 1; expected a number of at least 0 and below 1"),
        ("[loss]\noversample = 0.5", "oversample = 0.5; expected a number of at least 1"),
        ("[validate]\npatience = -1", "patience = -1; expected a whole number of at least 0"),
        ("[augment]\ncrop = [0, 64]", r"crop = \[0, 64\]; expected a list of 2, each a whole number of at least 32"),
        ("[augment]\nflip = 3", "flip = 3; expected a number from 0 to 1"),
        ("[model]\ndecoder_layers = 2", "at least 3"),
        ("[data]\ntile = 48", "tile = 48; expected a whole number of at least 64"),
        ("preset = 'ade-160k'\n[data]\ntile = 200", "kind = 'short-side' would learn at another scale"),
        ("preset = 'mine'", "choose one of small"),
        ("[schedule", "not valid TOML"),
    ],
)
def test_mistakes_are_named(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        resolve(None, _file(tmp_path, text), {})


@pytest.mark.parametrize(
    "text", ["[schedule]\nlr = " + "9" * 5000, "a = " + "[" * 9999, "[data]\npath = [" + "'x'," * 999 + "]"]
)
def test_a_monstrous_file_is_one_short_line(text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"recipe\.toml: ") as caught:
        resolve(None, _file(tmp_path, text), {})
    assert len(str(caught.value)) < len(str(tmp_path)) + 300
    assert "\n" not in str(caught.value)


def test_a_wrong_option_is_called_as_it_was_spelled(tmp_path: Path) -> None:
    options, spelled = {"schedule": {"lr": 0.0}}, {("schedule", "lr"): "--lr"}
    with pytest.raises(UsageError, match=r"^--lr 0\.0; expected a number above 0$"):
        resolve(None, _file(tmp_path, "[schedule]\nlr = 1"), options, spelled)


def test_every_option_sets_a_key_that_there_is() -> None:
    keys = [key for setting in SETTINGS for key in (setting.key, *setting.more)]
    tables = {field.name: get_type_hints(Recipe)[field.name] for field in fields(Recipe)}
    assert [key for table, key in keys if key not in get_type_hints(tables[table])] == []


def test_options_that_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^--max-steps and --epochs: both say how long; give one of them$"):
        resolve(None, None, {"schedule": {"steps": 3, "epochs": 1.0}}, SPELLED)
    config = _file(tmp_path, "[schedule]\nsteps = 3")
    assert resolve(None, config, {"schedule": {"epochs": 1.0}}, SPELLED).schedule.steps is None


def test_layers_are_for_levels_in_mask2former_alone() -> None:
    assert resolve(None, None, {"model": {"arch": "detr", "decoder_layers": 1}}).model.decoder_layers == 1


def test_small_names_every_key_that_has_no_default() -> None:
    tables = to_tables(resolve("small", None, {}))
    named = read_preset("small")
    assert {(t, k) for t, table in named.items() for k in table} <= {
        (t, k) for t, table in tables.items() for k in table
    }
    assert replace(resolve(None, None, {}), preset="small") == resolve("small", None, {})
