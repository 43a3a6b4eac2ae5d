"""weights.toml and the label tables: complete, consistent, and every row usable."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest
import torch

from segcli.config.backbones.resnet import ResNetConfig
from segcli.config.backbones.swin import SwinConfig
from segcli.config.maskformer import MaskFormerConfig
from segcli.types import MASK_TASKS, TASKS, MergeRule
from segcli.weights.architectures import build_model
from segcli.weights.manifest import ManifestEntry, default_for, label_table, lookup, manifest, read_manifest

OFFICIAL = [entry for entry in manifest().values() if entry.repo and entry.repo.startswith("facebook/mask2former-")]

BACKBONES = {
    "swin-tiny": SwinConfig(96, (2, 2, 6, 2), (3, 6, 12, 24), 7),
    "swin-small": SwinConfig(96, (2, 2, 18, 2), (3, 6, 12, 24), 7),
    "swin-base": SwinConfig(128, (2, 2, 18, 2), (4, 8, 16, 32), 12),
    "swin-large": SwinConfig(192, (2, 2, 18, 2), (6, 12, 24, 48), 12),
    "resnet50": ResNetConfig((3, 4, 6, 3), (256, 512, 1024, 2048)),
    "resnet101": ResNetConfig((3, 4, 23, 3), (256, 512, 1024, 2048)),
}

# table: classes, things
COUNTS = {
    "coco_panoptic": (133, 80),
    "coco_instance": (80, 80),
    "ade20k_150": (150, 100),
    "ade20k_instance_100": (100, 100),
    "cityscapes_19": (19, 8),
    "cityscapes_instance_8": (8, 8),
    "mapillary_vistas_65": (65, 37),
    "facade_10": (10, 5),
    "everyday_21": (21, 20),
    "nuclei_1": (1, 1),
}


def test_every_official_repository_is_there_once() -> None:
    assert len(OFFICIAL) == len({entry.repo for entry in OFFICIAL}) == 29
    by_dataset = Counter(re.sub(r"^swin-(tiny|small|base|large)(-IN21k)?-", "", entry.name) for entry in OFFICIAL)
    assert by_dataset == {
        "coco-panoptic": 4,
        "coco-instance": 5,
        "ade-semantic": 5,
        "ade-panoptic": 1,
        "cityscapes-panoptic": 4,
        "cityscapes-instance": 4,
        "cityscapes-semantic": 4,
        "mapillary-vistas-panoptic": 1,
        "mapillary-vistas-semantic": 1,
    }


@pytest.mark.parametrize("entry", manifest().values(), ids=lambda entry: entry.name)
def test_a_row_is_usable(entry: ManifestEntry) -> None:
    spec = entry.spec()
    assert spec.tasks == entry.tasks
    assert set(spec.tasks) <= set(TASKS)
    assert spec.tasks
    assert spec.size.short <= spec.size.long
    assert entry.metrics
    assert entry.licence
    assert all(label.isthing for label in spec.labels) or "instance" not in entry.tasks or "panoptic" in entry.tasks
    if entry.bundled_folder is not None:
        assert (entry.bundled_folder / "config.json").is_file()


@pytest.mark.parametrize("entry", OFFICIAL, ids=lambda entry: entry.name)
def test_an_official_row_is_the_original_protocol(entry: ManifestEntry) -> None:
    task = entry.name.rpartition("-")[2]
    assert entry.repo == f"facebook/mask2former-{entry.name}"
    assert entry.tasks == (MASK_TASKS if task == "panoptic" else (task,))
    assert re.fullmatch(r"[0-9a-f]{40}|main", entry.revision or "")  # never a short hash, never refs/pr/N
    assert entry.weights in ("model.safetensors", "pytorch_model.bin")
    assert entry.licence == "CC BY-NC 4.0"
    assert not entry.verified
    assert next(iter(entry.metrics)) == {"panoptic": "PQ", "instance": "AP", "semantic": "mIoU"}[task]
    # 200 queries: Swin-L, except for semantic segmentation
    assert entry.queries == (200 if entry.backbone == "swin-large" and task != "semantic" else 100)
    assert entry.spec().rule.score == (0.0 if "mapillary" in entry.name else 0.8)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("swin-tiny-coco-panoptic", (800, 1333)),
        ("swin-small-ade-semantic", (512, 2048)),
        ("swin-base-ade-semantic", (640, 2560)),
        ("swin-large-ade-panoptic", (640, 2560)),
        ("swin-large-cityscapes-instance", (1024, 2048)),
        ("swin-large-mapillary-vistas-semantic", (2048, 2048)),
    ],
)
def test_test_sizes(name: str, size: tuple[int, int]) -> None:
    assert (manifest()[name].size.short, manifest()[name].size.long) == size


def test_six_repositories_have_only_a_bin() -> None:
    assert {entry.name for entry in OFFICIAL if entry.weights == "pytorch_model.bin"} == {
        "swin-large-coco-panoptic",
        "swin-base-IN21k-coco-instance",
        "swin-small-cityscapes-panoptic",
        "swin-small-cityscapes-instance",
        "swin-tiny-ade-semantic",
        "swin-base-IN21k-ade-semantic",
    }


def test_parameter_counts_follow_from_the_published_one() -> None:
    """47,435,264 for Swin-T with 133 classes and 100 queries; a class costs 257, a query 2 x 256."""
    for entry in OFFICIAL:
        if entry.backbone == "swin-tiny":
            more_classes, more_queries = len(label_table(entry.labels)) - 133, (entry.queries or 0) - 100
            assert entry.parameters == 47_435_264 + 257 * more_classes + 512 * more_queries


def test_maskformer_rows_are_built_as_published() -> None:
    """Millions of parameters as in the paper's tables; the classes of a row without a table are in its name."""
    rows = [entry for entry in manifest().values() if entry.family == "maskformer"]
    assert len(rows) == len({entry.repo for entry in rows}) == 16
    published = dict(zip(BACKBONES, (42, 63, 102, 212, 41, 60), strict=True))
    for entry in rows:
        assert entry.repo == f"facebook/{entry.name}"
        assert entry.licence == "CC BY-NC 4.0"
        assert not entry.verified
        assert entry.rule == MergeRule(score=0.8, overlap=0.8, mask_min=None)
        unlisted = {"coco-stuff": 171, "ade20k-full": 847}.get(re.sub(r"^maskformer-resnet\d+-", "", entry.name))
        classes = len(label_table(entry.labels)) if entry.labels else unlisted
        config = MaskFormerConfig(BACKBONES[entry.backbone], classes or 0)
        with torch.device("meta"):
            parameters = sum(p.numel() for p in build_model(config).parameters())
        assert entry.parameters == parameters
        assert round(parameters / 1e6) == published[entry.backbone]


def test_eomt_rows_have_the_size_in_their_name() -> None:
    """Two of the authors' files for DINOv3 at 1280 leave the size out and would run at 640; and for ADE20K there are
    links in two spellings."""
    rows = [entry for entry in manifest().values() if entry.family == "eomt"]
    assert len(rows) == len({entry.repo for entry in rows}) >= 20
    for entry in rows:
        assert re.fullmatch(rf"tue-mps/.*[_-]{entry.size.short}(_2x)?", entry.repo or "")
        assert ("-1280" in entry.name) == (entry.size.short == 1280)
        assert (entry.repo or "").startswith(f"tue-mps/{'eomt-dinov3-' if 'dinov3' in entry.name else ''}")
        assert ("ade20k_" in (entry.repo or "")) == ("-ade-" in entry.name and "dinov3" not in entry.name)


def test_the_defaults_do_their_task() -> None:
    assert [default_for(task) for task in TASKS] == [
        "eomt-small-coco-panoptic",
        "swin-tiny-coco-instance",
        "swin-tiny-ade-semantic",
        "detr-resnet-50",
    ]
    assert all(task in manifest()[default_for(task)].tasks for task in TASKS)


def test_every_spelling_finds_the_row() -> None:
    row = manifest()["swin-base-IN21k-ade-semantic"]
    for name in (row.name, f"mask2former-{row.name}", row.repo, "SWIN-BASE-in21k-ade-semantic"):
        assert lookup(str(name)) is row
    assert lookup("swin-huge-coco-panoptic") is None


# ------------------------------------------------------------------------------------------------------------- labels


def test_the_label_tables_are_all_there() -> None:
    folder = Path(__file__).resolve().parents[2] / "segcli" / "weights" / "labels"
    assert {path.stem for path in folder.iterdir()} == set(COUNTS)
    for path in folder.iterdir():
        table = json.loads(path.read_text(encoding="utf-8"))
        assert set(table) == {"dataset", "readme", "categories"}
        assert "id = " in table["readme"]  # says what its ids mean


@pytest.mark.parametrize("name", COUNTS)
def test_a_label_table_is_whole(name: str) -> None:
    labels = label_table(name)
    assert (len(labels), sum(labels.isthing)) == COUNTS[name]
    assert len(set(labels.ids)) == len(labels)
    assert len(set(labels.names)) == len(labels)
    assert all(label.name == label.name.strip() and label.name for label in labels)
    assert all(0 <= part <= 255 for label in labels if label.color for part in label.color)


def test_label_ids_are_the_datasets_own() -> None:
    coco = label_table("coco_panoptic")
    assert (coco[0].name, coco[0].id) == ("person", 1)
    assert [(coco[i].name, coco[i].id) for i in (79, 80, 132)] == [
        ("toothbrush", 90),
        ("banner", 92),
        ("rug-merged", 200),
    ]
    assert label_table("coco_instance").labels == coco.labels[:80]

    city = label_table("cityscapes_19")
    assert city.ids == [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
    assert label_table("cityscapes_instance_8").labels == city.labels[11:]

    ade = label_table("ade20k_150")
    assert ade.ids == list(range(1, 151))
    things = [(label.id, label.color) for label in ade if label.isthing]
    assert [(label.id, label.color) for label in label_table("ade20k_instance_100")] == things
    assert label_table("mapillary_vistas_65").ids == list(range(1, 66))


def test_coco_is_the_published_table(shared_dir: Path) -> None:
    path = shared_dir / "data" / "coco_panoptic" / "panoptic_coco_categories.json"
    for label, row in zip(label_table("coco_panoptic"), json.loads(path.read_text()), strict=True):
        assert (label.id, label.name, label.isthing) == (row["id"], row["name"], bool(row["isthing"]))
        assert label.color == tuple(row["color"])


# -------------------------------------------------------------------------------------------------- other manifests

BUNDLED_ROW = """
[defaults]
panoptic = "facade"
[models.facade]
bundled = "facade"
family = "mask2former"
backbone = "efficientnet-lite0"
parameters = 1
tasks = ["panoptic", "instance", "semantic"]
labels = "facade_10"
size = { short = 512, long = 1024 }
rule = { score = 0.5 }
mean = [127.0, 127.0, 127.0]
std = [128.0, 128.0, 128.0]
metrics = { PQ = 12.0 }
verified = true
licence = "CC BY 4.0"
"""


def test_a_bundled_row(tmp_path: Path) -> None:
    path = tmp_path / "weights.toml"
    path.write_text(BUNDLED_ROW)
    entry = read_manifest(path).entries["facade"]
    assert entry.bundled_folder is not None
    assert entry.bundled_folder.parts[-3:] == ("segcli", "bundled", "facade")
    assert (entry.spec().mean, entry.spec().rule.score, entry.spec().rule.overlap) == ((127.0,) * 3, 0.5, 0.8)
    assert (entry.status, entry.headline) == ("verified", "PQ 12.0")


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("score = 0.5", "scores = 0.5", "scores"),
        ("family =", "famly =", "famly"),
        ('bundled = "facade"', "", "exactly one of repo and bundled"),
    ],
)
def test_a_mistake_in_a_row_is_named(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    path = tmp_path / "weights.toml"
    path.write_text(BUNDLED_ROW.replace(old, new))
    with pytest.raises(ValueError, match=rf"models\.facade.*{complaint}"):
        read_manifest(path)
