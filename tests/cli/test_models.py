"""`segcli models`: what it prints, where, and how it ends."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import constants
from typer.testing import CliRunner, Result

from segcli.cli import app
from segcli.evaluation import published as verify
from segcli.types import TASKS, Label, LabelSet
from segcli.weights import golden
from segcli.weights import manifest as manifest_module
from segcli.weights.checkpoint import load_model, save_model
from segcli.weights.manifest import manifest
from segcli.weights.verified import verifications
from tests.evaluation.scored import write_scored
from tests.fakes import LABELS, FakeLoaded


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["models", *arguments])


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no network to fill it."""
    cache = tmp_path / "cache"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return cache


def cached(cache: Path, repo: str, revision: str) -> Path:
    """A model in the cache's own layout, of one empty file each."""
    root = cache / f"models--{repo.replace('/', '--')}"
    commit = revision if len(revision) == 40 else "a" * 40
    folder = root / "snapshots" / commit
    folder.mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / revision).write_text(commit)
    for name in ("config.json", "model.safetensors"):
        (folder / name).touch()
    return folder


def test_list_names_every_model_with_its_metric_and_licence() -> None:
    lines = [line.rstrip() for line in run("list").stdout.splitlines()]
    headings = [
        line.split(",")[0].strip() for line in lines if line.startswith(("ready: ", *(f"{t}, " for t in TASKS)))
    ]
    assert list(dict.fromkeys(headings)) == ["ready: ships with segcli", "panoptic", "instance", "semantic", "detect"]
    end = next(number for number, line in enumerate(lines) if line.startswith("* a task"))
    assert max(len(line.rstrip()) for line in lines[:end]) <= 80
    for entry in manifest().values():
        (line,) = [line for line in lines if line.split()[:1] == [entry.name]]
        assert all(part in line for part in (entry.headline, entry.licence.replace(" License", "")))
        assert ("✓" in line) == entry.verified
    assert sum("CC BY-NC 4.0" in line for line in lines) == 45
    boxes = run("list", "--task", "detect").stdout
    assert "detr-resnet-50 " in boxes
    assert "swin-tiny-coco-panoptic" not in boxes
    first = lines.index("panoptic, COCO val2017")
    scores = [float(line.split()[3]) for line in lines[first + 1 : lines.index("", first)] if "*" not in line]
    assert scores == sorted(scores, reverse=True)
    (line,) = [line for line in lines if line.startswith("swin-tiny-ade-semantic ")]
    assert line.startswith("swin-tiny-ade-semantic * ")  # the default of its task


def test_list_and_show_as_json(empty_cache: Path) -> None:
    cached(empty_cache, "facebook/mask2former-swin-base-ade-semantic", "main")
    rows = {row["name"]: row for row in json.loads(run("list", "--json").stdout)}
    assert list(rows) == list(manifest())
    row = rows["swin-base-ade-semantic"]
    assert (row["here"], row["licence"], row["metrics"]["mIoU"]) == ("cached", "CC BY-NC 4.0", 52.4)
    assert rows["swin-tiny-coco-panoptic"]["here"] is None
    shown = json.loads(run("show", "mask2former-swin-base-ade-semantic", "--json").stdout)
    assert shown.pop("classes")[0] == {"id": 1, "name": "wall", "isthing": False}
    assert shown == row


def test_show_says_what_is_uncertain() -> None:
    text = run("show", "swin-base-coco-panoptic").stdout
    for part in ("published", "PQ 55.1", "CC BY-NC 4.0", "80 things, 53 stuff", "short side 800", "ImageNet-21k"):
        assert part in text


def test_path_and_pull_of_what_is_here(empty_cache: Path) -> None:
    folder = cached(empty_cache, "facebook/mask2former-swin-base-ade-semantic", "main")
    assert run("path", "swin-base-ade-semantic").stdout.strip() == str(folder)
    pulled = run("pull", "swin-base-ade-semantic")
    assert pulled.stdout.strip() == str(folder)
    assert "licence of the weights: CC BY-NC 4.0" in pulled.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (("show", "swin-tiny-coco-panotpic"), 3, "Did you mean swin-tiny-coco-panoptic"),
        (("show", "nobody/nothing"), 3, "nobody/nothing is not on this machine: segcli models pull nobody/nothing"),
        (("show", "nothing"), 3, "there is no model 'nothing'"),
        (("show", str(Path(__file__).parent)), 3, "has no config.json"),
        (("path", "swin-tiny-coco-panoptic"), 3, "segcli models pull swin-tiny-coco-panoptic"),
        (("pull", "swin-tiny-coco-panoptic"), 3, "HF_HUB_OFFLINE is set"),
        (("pull", "nothing"), 3, "no model 'nothing'"),
        (("verify", "swin-large-ade-semantic"), 2, "no reference outputs of swin-large-ade-semantic"),
        (("verify", "swin-small-coco-instance"), 2, "--photo FILE"),
        (("verify", "swin-small-coco-instance", "--photo", "nowhere.jpg"), 2, "no file nowhere.jpg"),
        (("verify", "swin-small-coco-instance", "--photo", __file__), 2, "its SHA-256 is not"),
        (("verify", "swin-small-coco-instance", "--data", str(Path(__file__).parent)), 2, "has no 000000039769.jpg"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, tuple) else None,
)
def test_what_cannot_be_done_ends_in_one_line(arguments: tuple[str, ...], code: int, complaint: str) -> None:
    result = run(*arguments)
    assert result.exit_code == code
    assert not result.stdout
    assert result.stderr.count("\n") == 1
    assert complaint in result.stderr


@pytest.mark.parametrize(("passed", "code"), [(True, 0), (False, 1)])
def test_verify_reports_what_it_compared(
    passed: bool, code: int, shared_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With another model in the place of the published one, and another photo in that of the cats."""
    folder = shared_dir / "models" / "facade-reference"
    monkeypatch.setattr("segcli.weights.hub._copied_from", lambda *_: manifest()["swin-tiny-coco-panoptic"])
    monkeypatch.setattr(golden.GoldenPhoto, "is_in", lambda *_: True)
    monkeypatch.setattr(golden, "check", lambda *_: [golden.Check("class logits", 1.5e-5, passed)])
    monkeypatch.setattr("segcli.weights.checkpoint.load_model", lambda *_, **__: None)
    result = run("verify", str(folder), "--photo", str(shared_dir / "data" / "photos" / "chelsea.png"))
    assert result.exit_code == code
    assert "class logits" in result.stdout
    assert "1.5e-05" in result.stdout
    assert "Not measured: the published metric (PQ 53.2)" in result.stdout


def test_the_published_metric_is_measured_and_kept(
    fake: FakeLoaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another network in the place of the bundled one, and five photos in that of its hundred and five."""
    monkeypatch.setenv("SEGCLI_VERIFIED", str(tmp_path / "mine" / "verified.json"))
    data = write_scored(tmp_path / "data")
    result = run("verify", "facade", "--data", str(data))
    assert result.exit_code == 1
    assert (
        "105 facade photographs: that is 105 images, not 5; no comparison is made, and nothing is stored"
        in result.stderr
    )
    monkeypatch.setitem(verify._IMAGES, "105 facade photographs", 5)
    result = run("verify", "facade", "--data", str(data))
    assert result.exit_code == 1
    published = manifest()["facade"].metrics["PQ"]
    assert [cell for cell in result.stdout.splitlines()[2].split() if cell in ("PQ", f"{published:.1f}", "NO")]
    assert "Kept in" in result.stdout
    [kept] = verifications().values()
    assert (kept.name, kept.passed, kept.data["images"], kept.metrics[0].metric) == ("facade", False, 5, "PQ")
    assert "measured here" in run("show", "facade").stdout
    monkeypatch.setattr(verify, "TOLERANCE", 100.0)
    assert run("verify", "facade", "--data", str(data)).exit_code == 0
    assert verifications()["facade"].passed


def test_the_average_over_sizes_is_measured_apart_and_kept_beside(
    fake: FakeLoaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGCLI_VERIFIED", str(tmp_path / "verified.json"))
    monkeypatch.setitem(verify._IMAGES, "105 facade photographs", 2)
    data = write_scored(tmp_path / "data", 2)
    result = run("verify", "facade", "--data", str(data), "--tta")
    assert result.exit_code == 2
    assert "facade has no published metric that averages over sizes; leave out --tta (PQ)" in result.stderr
    entry = replace(manifest()["facade"], metrics={"mIoU": 1.0, "mIoU (ms+flip)": 2.0})
    monkeypatch.setitem(manifest_module._spellings(), "facade", entry)
    monkeypatch.setattr(verify, "TOLERANCE", 100.0)
    result = run("verify", "facade", "--data", str(data))
    assert "Not measured: mIoU (ms+flip) (with --tta)." in result.stdout
    one = verifications()["facade"]
    assert run("verify", "facade", "--data", str(data), "--tta").exit_code == 0
    both = verifications()["facade"]
    assert [row.metric for row in both.metrics] == ["mIoU", "mIoU (ms+flip)"]
    assert both.metrics[0] == one.metrics[0]
    assert both.passed
    assert set(both.protocol) == {"semantic", "mIoU (ms+flip)"}


def test_verify_of_nothing_is_a_mistake(tmp_path: Path) -> None:
    """A script that names its data wrongly must not pass."""
    result = run("verify", "facade", "--data", str(tmp_path / "none"))
    assert (result.exit_code, "no such folder" in result.stderr) == (2, True)
    result = run("verify", "facade", "--data", str(tmp_path))
    assert (result.exit_code, "no dataset in it, but PQ" in result.stderr) == (2, True)


def test_the_rule_that_is_shown_is_of_the_model_s_task() -> None:
    shown = " ".join(run("show", "nuclei").stdout.split())
    assert "score ≥ 0.9, of each mask the largest part only, instances that repeat a surer one (IoU 0.8) left" in shown
    assert "score > 0.8, overlap ≥ 0.8, mask ≥ 0.5" in run("show", "swin-tiny-coco-panoptic").stdout


def test_other_data_says_nothing_about_published_numbers(fake: FakeLoaded, tmp_path: Path) -> None:
    data = write_scored(tmp_path, 1, LabelSet((*LABELS.labels[1:], Label(90, "blue", False))))
    result = run("verify", "facade", "--data", str(data))
    assert result.exit_code == 2
    assert "not the data of the published numbers, 105 facade photographs" in result.stderr


def test_a_folder_of_one_s_own_is_shown_as_it_describes_itself(tmp_path: Path) -> None:
    loaded = load_model("facade", "cpu", "fp32")
    loaded.facts["step"] = 77
    folder = save_model(loaded, tmp_path / "run" / "best")
    shown = " ".join(run("show", str(folder)).stdout.split())
    assert "name run/best" in shown
    assert "10 (5 things, 5 stuff) balcony-fence, car, facade" in shown
    assert "test size tiles of 320 pixels" in shown
    assert "step 77" in shown
    document = json.loads(run("show", str(folder), "--json").stdout)
    known = json.loads(run("show", "facade", "--json").stdout)
    shared = ("family", "queries", "parameters", "tasks", "rule", "metrics", "licence", "classes")
    assert {key: document[key] for key in shared} == {key: known[key] for key in shared}
    assert (document["facts"]["step"], document["folder"]) == (77, str(folder))
    assert document["megabytes"] == round((folder / "model.safetensors").stat().st_size / 1e6, 1)
