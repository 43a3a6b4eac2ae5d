"""Beginning from a checkpoint: only what cannot fit is made anew."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import segcli
from segcli.config import MODEL_TYPES
from segcli.types import InferenceSpec, InputSize, Label, LabelSet
from segcli.weights.adapt import described, from_backbone, from_checkpoint, from_description
from segcli.weights.checkpoint import load_model, save_model
from segcli.weights.hf_config import raw_config
from segcli.weights.pretrained import LITE0_PACKAGE, PRETRAINED

START = str(Path(segcli.__file__).parent / "bundled" / "facade")  # ships with segcli


def _spec(*names: str) -> InferenceSpec:
    labels = LabelSet(tuple(Label(i + 1, name, True) for i, name in enumerate(names)))
    return InferenceSpec(("panoptic",), labels, load_model(START, "cpu", "fp32").spec.size)


def _changed(queries: int | None, spec: InferenceSpec) -> tuple[set[str], tuple[str, ...]]:
    """Names of tensors that are not the checkpoint's, and what was said."""
    before = load_model(START, "cpu", "fp32").model.state_dict()
    beginning = from_checkpoint(START, spec, queries)
    after = beginning.loaded.model.state_dict()
    assert before.keys() == after.keys()
    assert all(p.requires_grad for p in beginning.loaded.model.parameters())
    return {name for name in before if not torch.equal(before[name], after[name])}, beginning.notes


# Where the classes are the same, what the checkpoint reaches is what training must beat.
KNOWN = "facade comes with PQ 35.1 (its own thresholds, its own data): training must beat it"


def test_other_classes_change_the_class_layer_alone() -> None:
    changed, notes = _changed(None, _spec("cat", "dog"))
    assert changed == {"head.classifier.weight", "head.classifier.bias"}
    assert notes == ("new class layer; number of classes: 2 (facade has 10 others)",)


def test_another_number_of_queries_changes_the_query_embeddings_alone() -> None:
    changed, notes = _changed(17, load_model(START, "cpu", "fp32").spec)
    assert changed == {"query_decoder.query_features", "query_decoder.query_positions"}
    assert notes == (KNOWN, "new query embeddings: 17 queries instead of 100")


def test_the_same_classes_change_nothing() -> None:
    assert _changed(None, load_model(START, "cpu", "fp32").spec) == (set(), (KNOWN,))


def test_other_words_for_the_same_classes_change_the_words_alone() -> None:
    spec = load_model("nuclei", "cpu", "fp32").spec
    beginning = from_checkpoint("nuclei", replace(spec, labels=LabelSet((Label(3, "nuclei", True),))), None)
    assert not any("class layer" in note for note in beginning.notes)
    assert beginning.loaded.spec.labels.labels == (Label(3, "nuclei", True),)


def test_classes_that_a_sign_tells_apart_are_not_the_same_in_another_order(tmp_path: Path) -> None:
    loaded = from_checkpoint(START, _spec("Ki67+", "Ki67-"), None).loaded
    folder = str(save_model(loaded, tmp_path / "cells"))
    assert not any("class layer" in note for note in from_checkpoint(folder, _spec("Ki67+", "Ki67-"), None).notes)
    assert any("class layer" in note for note in from_checkpoint(folder, _spec("Ki67-", "Ki67+"), None).notes)


def test_a_class_without_a_name_is_the_only_one_that_the_model_has() -> None:
    spec = load_model("nuclei", "cpu", "fp32").spec
    unnamed = replace(spec, labels=LabelSet((Label(7, "object", True),)))
    beginning = from_checkpoint("nuclei", unnamed, None)
    assert beginning.notes[0] == 'the class goes on as "nucleus", as nuclei calls it'
    assert not any("class layer" in note for note in beginning.notes)
    assert beginning.loaded.spec.labels.labels == (Label(7, "nucleus", True),)
    assert list(beginning.loaded.raw_config["id2label"].values()) == ["nucleus"]
    _, notes = _changed(None, _spec("object"))  # of ten classes none is meant
    assert notes == ("new class layer; number of classes: 1 (facade has 10 others)",)


def test_tiles_that_are_not_kept_are_named() -> None:
    changed, notes = _changed(None, replace(load_model(START, "cpu", "fp32").spec, size=InputSize()))
    assert not changed
    assert notes == (
        KNOWN,
        "facade predicts in tiles, this run trains on whole images; --tile 320 --short-side 416 keeps its own",
    )


@pytest.mark.parametrize("arch", ["per-pixel", "per-pixel-plus"])
def test_models_whose_queries_are_classes_take_other_classes(tmp_path: Path, arch: str) -> None:
    pytest.importorskip(LITE0_PACKAGE)
    spec = replace(_spec("cat", "dog", "sky"), tasks=("semantic",))
    begun = from_backbone(MODEL_TYPES[arch], "lite0", spec, None, {})
    save_model(begun.loaded, tmp_path / "model")
    other = from_checkpoint(str(tmp_path / "model"), replace(spec, labels=_spec("a", "b", "c", "d", "e").labels), None)
    assert other.loaded.config.num_queries == 5
    assert other.notes == ("new class layer; number of classes: 5 (model has 3 others)",)
    save_model(other.loaded, tmp_path / "other")
    assert load_model(tmp_path / "other", "cpu", "fp32").labels.names == ["a", "b", "c", "d", "e"]


def test_what_was_adapted_loads_again(tmp_path: Path) -> None:
    spec = _spec("cat", "dog")
    loaded = from_checkpoint(START, spec, 17).loaded
    save_model(loaded, tmp_path / "model")
    again = load_model(tmp_path / "model", "cpu", "fp32")
    assert again.config.num_queries == 17
    assert again.labels == spec.labels
    assert again.spec.mean == load_model(START, "cpu", "fp32").spec.mean
    for name, tensor in loaded.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], tensor)


@pytest.mark.parametrize("arch", [None, *MODEL_TYPES])
def test_a_model_is_built_again_as_it_is_described(arch: str | None) -> None:
    if arch is None:
        loaded = from_checkpoint(START, _spec("cat", "dog"), 17).loaded
    else:
        pytest.importorskip(LITE0_PACKAGE)
        kind = MODEL_TYPES[arch]
        if not kind.takes(PRETRAINED["lite0"].config):
            pytest.skip("its backbones are downloads")
        spec = replace(_spec("cat", "dog"), tasks=kind.tasks)
        loaded = from_backbone(kind, "lite0", spec, None, {}).loaded
    again = from_description(json.loads(json.dumps(described(loaded))), loaded.model.state_dict(), "a file")
    assert (again.config, again.spec, again.facts) == (loaded.config, loaded.spec, loaded.facts)
    assert (again.raw_config, again.preprocessor) == (loaded.raw_config, loaded.preprocessor)
    mine, theirs = (dict(model.named_parameters()) for model in (again.model, loaded.model))
    assert [(n, p.shape, p.stride(), p.requires_grad) for n, p in mine.items()] == [
        (n, p.shape, p.stride(), p.requires_grad) for n, p in theirs.items()
    ]


def test_the_classes_of_a_model_that_numbers_its_outputs_keep_their_order() -> None:
    pytest.importorskip(LITE0_PACKAGE)
    spec = replace(_spec("cat", "dog"), tasks=("detect",))
    loaded = from_backbone(MODEL_TYPES["detr"], "lite0", spec, None, {}).loaded
    loaded.config = replace(loaded.config, num_outputs=5, columns=(4, 1))  # type: ignore[call-arg]
    loaded.raw_config |= raw_config(loaded.config, spec.labels)
    assert from_description(described(loaded), loaded.model.state_dict(), "a file").config == loaded.config
