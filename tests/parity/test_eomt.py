"""EoMT computes what transformers computes, in both of its architectures, and saves what transformers loads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segcli.codecs.image import read_image, resize
from segcli.config import parse_config
from segcli.config.backbones.vit import ViTConfig
from segcli.config.eomt import EomtConfig
from segcli.layers.stochastic import per_image
from segcli.models.backbones.vit import ViT
from segcli.objective.criterion import SetCriterion
from segcli.objective.terms import AtPoints, MaskTerms
from segcli.segments import Segments
from segcli.types import InferenceSpec, InputSize, Label, LabelSet, QueryPredictions, Target
from segcli.weights.adapt import from_backbone
from segcli.weights.architectures import build_model, key_map
from segcli.weights.checkpoint import load_model, save_model
from segcli.weights.golden import Golden, check
from segcli.weights.keys.dino import resized_kernel
from segcli.weights.originals.convert import convert
from tests.parity.hf import batch, relative, twin

transformers = pytest.importorskip("transformers")

SMALL = {
    "hidden_size": 64,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "image_size": 64,
    "num_queries": 7,
    "num_blocks": 3,
    "num_labels": 5,
}
KINDS = ("dinov2", "dinov2-swiglu", "dinov3")


def theirs_of(kind: str, masked: float = 0.0, **settings: Any) -> nn.Module:
    """A random model of transformers in float64, with nothing at a value that would hide a mistake.

    In float64 because float32 sums stray by themselves; its fused attention reads float32 masks as float64, so it is
    the plain one.
    """
    torch.manual_seed(0)
    values = SMALL | settings
    if kind == "dinov3":
        config = transformers.EomtDinov3Config(**values, intermediate_size=4 * values["hidden_size"])
        model: Any = transformers.EomtDinov3ForUniversalSegmentation._from_config(config, attn_implementation="eager")
    else:
        config = transformers.EomtConfig(**values, use_swiglu_ffn=kind.endswith("swiglu"))
        model = transformers.EomtForUniversalSegmentation._from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                low, high = (0.3, 1.0) if name.endswith(("weight", "lambda1")) else (-0.2, 0.2)
                parameter.uniform_(low, high)
            elif "token" in name or "position" in name:
                parameter.normal_()
            elif "patch_embeddings" in name or "mask_head" in name:
                parameter *= 30  # so that masks differ from place to place, and some of each are negative
        model.attn_mask_probs.fill_(masked)
    return model.eval().double()


def images(count: int = 2, side: int = 64) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("masked", [0.0, 1.0])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_the_same_logits(kind: str, masked: float) -> None:
    theirs = theirs_of(kind, masked)
    ours = twin(theirs).double()
    expected = theirs(pixel_values=images())
    got = ours(batch(images()))[-1]
    assert relative(got.classes, expected.class_queries_logits) <= 1e-5
    assert relative(got.masks.dense(), expected.masks_queries_logits) <= 1e-5
    if masked:
        theirs.attn_mask_probs.fill_(0.0)
        assert relative(theirs(pixel_values=images()).class_queries_logits, expected.class_queries_logits) > 1e-3


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_folders_are_read_both_ways(kind: str, tmp_path: Path) -> None:
    theirs = theirs_of(kind).float()
    theirs.save_pretrained(tmp_path / "theirs")
    loaded = load_model(tmp_path / "theirs", "cpu", "fp32")
    pixels = images().float()
    expected = theirs(pixel_values=pixels)
    got = loaded.model(batch(pixels))[-1]
    assert relative(got.classes, expected.class_queries_logits) <= 1e-5
    assert relative(got.masks.dense(), expected.masks_queries_logits) <= 1e-5
    assert loaded.spec.size == InputSize(64, 64, divisor=16, rounding="even", frame="square", fill="black")

    save_model(loaded, tmp_path / "ours")
    again, info = type(theirs).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert relative(again.eval()(pixel_values=pixels).class_queries_logits, expected.class_queries_logits) <= 1e-5


@torch.no_grad()
def test_a_share_of_the_queries_keeps_its_mask_in_training() -> None:
    """Statistics only: transformers draws from torch's generator, segcli from one of each image."""
    ours = twin(theirs_of("dinov2", num_queries=200)).float().train()
    masks: list[Tensor | None] = []
    ours.query_decoder.blocks[0].register_forward_pre_hook(lambda _, arguments: masks.append(arguments[2]))
    for probability in (1.0, 0.25, 0.0):
        ours.query_decoder.mask_probabilities.fill_(probability)
        ours.query_decoder.load_state_dict(ours.query_decoder.state_dict())  # as a checkpoint brings it
        with per_image([torch.Generator().manual_seed(i) for i in range(2)]):
            ours(batch(images().float()), every_layer=True)
    every, some, none = masks
    assert none is None
    assert every is not None
    assert some is not None
    closed = ~every.all(-1)
    kept = ~some.all(-1)
    assert int(closed.sum()) > 100
    assert bool((kept <= closed).all())
    assert 0.15 < float(kept.sum() / closed.sum()) < 0.35
    assert torch.equal(some[kept], every[kept])


def test_the_loss_of_every_layer_at_the_same_points(monkeypatch: pytest.MonkeyPatch) -> None:
    count, layers = 300, SMALL["num_blocks"] + 1
    theirs = theirs_of("dinov2", 1.0, train_num_points=count).float()
    ours = twin(theirs)
    generator = torch.Generator().manual_seed(3)
    masks = [torch.rand(n, 64, 64, generator=generator) > 0.7 for n in (3, 2)]
    labels = [torch.randint(0, SMALL["num_labels"], (len(m),), generator=generator) for m in masks]
    targets = [
        Target(label, mask, torch.zeros(len(label), 4), torch.zeros(len(label), dtype=torch.bool), str(i))
        for i, (label, mask) in enumerate(zip(labels, masks, strict=True))
    ]
    rest = 3 * count + count - count * 3 // 4
    points = {
        (t.image_id, what): torch.rand(n, 2)
        for t in targets
        for what, n in (("match-points", count), ("loss-points", rest))
    }
    criterion = SetCriterion(SMALL["num_labels"], (MaskTerms(AtPoints(count)),))
    predictions = ours(batch(images().float()), every_layer=True)
    assert len(predictions) == layers
    report = criterion(predictions, targets, lambda image, what, _: points[image, what])
    names = iter([t.image_id for t in targets] * layers)

    def rand(*shape: int, **_: Any) -> Tensor:
        if shape == (1, count, 2):  # for matching one image
            return points[next(names), "match-points"].unsqueeze(0)
        drawn = torch.cat([points[t.image_id, "loss-points"].expand(len(t.labels), -1, 2) for t in targets])
        return (drawn[:, : 3 * count] if shape[1] == 3 * count else drawn[:, 3 * count :]).contiguous()

    with monkeypatch.context() as patch, torch.no_grad():
        patch.setattr(torch, "rand", rand)
        expected = theirs(
            pixel_values=images().float(), mask_labels=[m.float() for m in masks], class_labels=labels
        ).loss
    torch.testing.assert_close(report.total.detach(), expected, rtol=1e-5, atol=1e-5)


# ------------------------------------------------------------------------------------------------------ from a backbone

LABELS = LabelSet((Label(1, "cat", True), Label(2, "sky", False)))


def dino(kind: str, folder: Path) -> nn.Module:
    """A random backbone, saved."""
    torch.manual_seed(0)
    shared = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4}
    if kind == "dinov3":
        config: Any = transformers.DINOv3ViTConfig(
            **shared, intermediate_size=256, num_register_tokens=4, image_size=64
        )
        model: Any = transformers.DINOv3ViTModel(config)
    elif kind == "dinov2":
        model = transformers.Dinov2Model(transformers.Dinov2Config(**shared, image_size=70, patch_size=14))
    else:
        model = transformers.Dinov2WithRegistersModel(
            transformers.Dinov2WithRegistersConfig(**shared, image_size=70, patch_size=14, num_register_tokens=4)
        )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    model.eval().save_pretrained(folder)
    return model


@pytest.mark.parametrize("kind", ["dinov2", "dinov2-registers", "dinov3"])
@torch.no_grad()
def test_a_backbone_of_the_hub_computes_what_it_computed(kind: str, tmp_path: Path) -> None:
    """With its own patches and grid and all blocks, the tokens after the last norm are those of the backbone."""
    theirs = dino(kind, tmp_path)
    config = parse_config_of_backbone(tmp_path)
    model = build_model(EomtConfig(config, 2, joint_blocks=1, num_queries=3))
    from segcli.weights.pretrained import load_backbone

    load_backbone(model, str(tmp_path))
    model.eval()
    side = config.image_size
    pixels = torch.randn(2, 3, side, side)
    patches, prefix, *rotary = model.backbone(pixels)
    tokens = torch.cat((prefix, patches.flatten(2).mT), dim=1)
    tokens = model.query_decoder.norm(model.query_decoder.blocks[0](tokens, *rotary))
    expected = theirs(pixel_values=pixels).last_hidden_state
    assert relative(tokens, expected) <= 1e-5


def parse_config_of_backbone(folder: Path) -> ViTConfig:
    from segcli.weights.pretrained import backbone_named

    config = backbone_named(str(folder)).config
    assert isinstance(config, ViTConfig)
    return config


def test_positions_and_patches_are_resampled_as_timm_does(tmp_path: Path) -> None:
    timm_layers = pytest.importorskip("timm.layers")
    theirs = dino("dinov2-registers", tmp_path)
    spec = InferenceSpec(("panoptic",), LABELS, InputSize(128, 128))
    model = from_backbone(EomtConfig, str(tmp_path), spec, None, {}).loaded.model
    state = theirs.state_dict()
    table = state["embeddings.position_embeddings"]
    expected = timm_layers.resample_abs_pos_embed(table[:, 1:], (8, 8), num_prefix_tokens=0)[0]
    torch.testing.assert_close(model.backbone.positions, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        model.backbone.class_token, state["embeddings.cls_token"] + table[:, :1], rtol=0, atol=1e-6
    )
    kernel = state["embeddings.patch_embeddings.projection.weight"]
    expected = timm_layers.resample_patch_embed(kernel, [16, 16])
    torch.testing.assert_close(model.backbone.patch_embed.weight, expected, rtol=1e-4, atol=1e-5)


def test_a_larger_patch_of_the_same_scene_gives_the_same_answer() -> None:
    kernel = torch.randn(8, 3, 14, 14, generator=torch.Generator().manual_seed(0))
    y, x = torch.meshgrid(torch.linspace(0, 1, 14), torch.linspace(0, 1, 14), indexing="ij")
    scene = torch.stack((y, x, torch.sin(3 * x + y)))[None]
    larger = nn.functional.interpolate(scene, size=(16, 16), mode="bicubic", antialias=True)
    before = nn.functional.conv2d(scene, kernel).flatten()
    after = nn.functional.conv2d(larger, resized_kernel(kernel, 16)).flatten()
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3)


# ------------------------------------------------------------------------------------------------- files in other words


def authors(state: dict[str, Tensor], gated: bool = False) -> dict[str, Tensor]:
    """A file of transformers in the words of the authors' own, queries, keys and values in one."""
    renamed: dict[str, Tensor] = {}
    words = {
        "embeddings.cls_token": "encoder.backbone.cls_token",
        "embeddings.register_tokens": "encoder.backbone.reg_token",
        "embeddings.patch_embeddings.projection": "encoder.backbone.patch_embed.proj",
        "layernorm.": "encoder.backbone.norm.",
        "query.weight": "q.weight",
        "class_predictor": "class_head",
        "mask_head.fc1": "mask_head.0",
        "mask_head.fc2": "mask_head.2",
        "mask_head.fc3": "mask_head.4",
        "upscale_block.block.": "upscale.",
        "layernorm2d": "norm",
        "layers.": "encoder.backbone.blocks.",
        "attention.out_proj": "attn.proj",
        "layer_scale1.lambda1": "ls1.gamma",
        "layer_scale2.lambda1": "ls2.gamma",
    }
    for name, tensor in state.items():
        if "q_proj" in name:
            parts = [state[name.replace("q_proj", part)] for part in ("q_proj", "k_proj", "v_proj")]
            name, tensor = name.replace("attention.q_proj", "attn.qkv"), torch.cat(parts)
        elif "k_proj" in name or "v_proj" in name:
            continue
        elif name == "embeddings.position_embeddings.weight":
            name, tensor = "encoder.backbone.pos_embed", tensor[None]
        for old, new in words.items():
            name = name.replace(old, new)
        renamed[f"network.{name}"] = tensor
    return renamed | {"network.encoder.pixel_mean": torch.zeros(1, 3, 1, 1)}


def test_the_authors_names_and_a_file_without_probabilities() -> None:
    theirs = theirs_of("dinov2").float()
    config = parse_config(theirs.config.to_dict(), "config.json")
    state = authors(theirs.state_dict())
    ours, unknown = key_map(config).read(state)
    assert unknown == []
    expected, _ = key_map(config).read(theirs.state_dict())
    assert ours.keys() == expected.keys()
    assert all(torch.equal(ours[name], expected[name]) for name in expected)
    del state["network.attn_mask_probs"]
    assert key_map(config).read(state)[0]["query_decoder.mask_probabilities"].tolist() == [0.0] * 3


@pytest.mark.parametrize("written", ["bare", "Lightning, compiled"])
@torch.no_grad()
def test_a_file_of_the_authors_becomes_a_folder_of_transformers(written: str, tmp_path: Path) -> None:
    theirs = theirs_of("dinov2", hidden_size=128, num_attention_heads=2, num_labels=133).float()
    state: dict[str, Any] = authors(theirs.state_dict()) | {"criterion.empty_weight": torch.ones(134)}
    if written != "bare":
        compiled = {name.replace("network.", "network._orig_mod.", 1): tensor for name, tensor in state.items()}
        state = {"state_dict": compiled, "epoch": 11, "global_step": 88692, "hyper_parameters": {"lr": 1e-4}}
    torch.save(state, tmp_path / "pytorch_model.bin")
    loaded = convert(tmp_path / "pytorch_model.bin").loaded
    assert loaded.spec.size == InputSize(64, 64, divisor=16, rounding="even", frame="square", fill="black")
    assert (loaded.spec.tasks[0], loaded.labels.names[0], loaded.labels.isthing[-1]) == ("panoptic", "person", False)
    again, info = type(theirs).from_pretrained(save_model(loaded, tmp_path / "ours"), output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    pixels = images().float()
    expected = theirs(pixel_values=pixels)
    assert relative(again.eval()(pixel_values=pixels).class_queries_logits, expected.class_queries_logits) <= 1e-5
    assert relative(loaded.model(batch(pixels))[-1].masks.dense(), expected.masks_queries_logits) <= 1e-5


@torch.no_grad()
def test_known_outputs_are_compared_on_the_photo_in_its_black_square(shared_dir: Path, tmp_path: Path) -> None:
    theirs = theirs_of("dinov3").float()
    theirs.save_pretrained(tmp_path)
    photo = read_image(shared_dir / "data" / "photos" / "chelsea.png")  # 300 × 451
    processor = transformers.EomtImageProcessor(size={"shortest_edge": 64, "longest_edge": 64}, do_pad=True)
    photo = resize(photo, (42, 64))  # of which theirs, which rounds down, makes nothing else
    output = theirs(**processor(photo, return_tensors="pt"))
    values = Golden("now", 1e-4, (42, 64), (64, 64), output.class_queries_logits[0, :3, :3].tolist(),
                    output.masks_queries_logits[0, 0, :3, :3].tolist())  # fmt: skip
    loaded = load_model(tmp_path, "cpu", "fp32")
    assert all(found.passed for found in check(loaded, photo, values))
    assert not any(found.passed for found in check(loaded, photo, replace(values, framed=None)))


def test_the_sizes_behind_the_authors_short_configuration() -> None:
    raw = {
        "model_type": "eomt", "backbone": "vit_base_patch14_reg4_dinov2", "image_size": 640, "patch_size": 16,
        "num_queries": 200, "num_blocks": 3, "num_labels": 133,
    }  # fmt: skip
    config = parse_config(raw, "config.json")
    assert (config.backbone.name, config.num_classes, config.num_queries) == ("dinov2-base", 133, 200)


def test_the_giant_s_older_names() -> None:
    """transformers 5.23 leaves these three matrices of every block at random."""
    theirs = theirs_of("dinov2-swiglu").float()
    config = parse_config(theirs.config.to_dict(), "config.json")
    state = dict(theirs.state_dict())
    for name in [name for name in state if "gate_proj" in name]:
        state[name.replace("gate_proj", "weights_in")] = torch.cat(
            (state.pop(name), state.pop(name.replace("gate_proj", "up_proj")))
        )
    state = {name.replace("down_proj", "weights_out"): tensor for name, tensor in state.items()}
    ours, unknown = key_map(config).read(state)
    expected, _ = key_map(config).read(theirs.state_dict())
    assert unknown == []
    assert all(torch.equal(ours[name], expected[name]) for name in expected)


@torch.no_grad()
def test_another_size_than_its_own() -> None:
    """A table is resampled, a rotation computed; at its own size nothing changes, and rectangles are welcome."""
    for kind in ("dinov2", "dinov3"):
        ours = twin(theirs_of(kind)).float()
        answer: QueryPredictions = ours(batch(torch.randn(1, 3, 96, 160)))[-1]
        assert answer.masks.dense().shape[2:] == (24, 40)
        assert bool(torch.isfinite(answer.masks.dense()).all())


def test_stuff_is_one_segment_where_transformers_has_two() -> None:
    """Its post-processing merges stuff only if it is told which classes are, which nothing in a checkpoint tells it."""
    from segcli.layers.masks import DenseMasks
    from segcli.postprocess import panoptic
    from segcli.types import Frame, MergeRule

    logits = torch.full((1, 2, 16, 16), -9.0)
    logits[0, 0, :, :8] = logits[0, 1, :, 8:] = 9.0
    classes = torch.tensor([[[0.0, 9.0, 0.0], [0.0, 9.0, 0.0]]])
    found: Segments = panoptic(
        QueryPredictions(classes, DenseMasks(logits)), 0, Frame((64, 64), (64, 64), (64, 64)), LABELS, MergeRule()
    )
    assert len(found.labels) == 1
    processor = transformers.EomtImageProcessor(size={"shortest_edge": 64, "longest_edge": 64})
    outputs = transformers.models.eomt.modeling_eomt.EomtForUniversalSegmentationOutput(
        class_queries_logits=classes, masks_queries_logits=logits
    )
    theirs = processor.post_process_panoptic_segmentation(outputs, target_sizes=[(64, 64)])[0]
    assert len(theirs["segments_info"]) == 2


def _answer(classes: list[list[float]], logits: Tensor) -> tuple[QueryPredictions, Any]:
    """The same answer of a network of three classes and "no object" for segcli and for transformers."""
    from segcli.layers.masks import DenseMasks

    known = torch.tensor([classes]).log()
    output = transformers.models.eomt.modeling_eomt.EomtForUniversalSegmentationOutput(
        class_queries_logits=known, masks_queries_logits=logits[None]
    )
    return QueryPredictions(known, DenseMasks(logits[None])), output


def test_instances_are_pairs_of_query_and_class_that_may_overlap() -> None:
    """The authors' top 100 of them (`mask_classification_instance`), where transformers keeps the best class of a query
    above 0.8 and lets later masks paint over earlier ones."""
    from segcli.postprocess import instance
    from segcli.types import Frame

    logits = torch.full((2, 16, 16), -2.0)
    logits[0, :, :10], logits[1, :, 6:] = 3.0, 1.5
    prediction, output = _answer([[0.5, 0.4, 0.05, 0.05], [0.05, 0.05, 0.85, 0.05]], logits)
    labels = LabelSet(tuple(Label(i, name, True) for i, name in enumerate("abc")))
    found = instance(prediction, 0, Frame((16, 16), (16, 16), (16, 16)), labels, EomtConfig.rule)

    probabilities = prediction.classes[0].softmax(-1)[:, :-1].flatten()
    expected = []
    for pair in probabilities.topk(6).indices.tolist():  # of top 100: all there are
        mask = logits[pair // 3] > 0
        score = probabilities[pair] * (logits[pair // 3].sigmoid() * mask).sum() / (mask.sum() + 1e-6)
        expected.append((float(score), pair % 3, mask.numpy()))
    expected.sort(key=lambda item: -item[0])
    assert len(found) == 6
    for place, (score, label, mask) in enumerate(expected):
        assert (found.labels[place], found.scores[place]) == (label, pytest.approx(score, rel=1e-5))
        assert (found.mask(place) == mask).all()

    processor = transformers.EomtImageProcessor(size={"shortest_edge": 16, "longest_edge": 16})
    theirs = processor.post_process_instance_segmentation(output, threshold=0.4, target_sizes=[(16, 16)])[0]
    assert [row["label_id"] for row in theirs["segments_info"]] == [0, 2]  # one class a query
    assert (theirs["segmentation"] == theirs["segments_info"][0]["id"])[
        0
    ].sum() == 6  # of 10 columns, four painted over


@pytest.mark.parametrize("owned", [7, 8, 9])
def test_a_segment_that_keeps_four_fifths_of_its_mask_stays(owned: int) -> None:
    """The original drops below 0.8. transformers drops at 0.8 too, but what it compares is float32's 0.8, which is
    more; so they differ in names alone: void is -1 there and ids begin at 0.
    """
    from segcli.postprocess import panoptic
    from segcli.types import Frame

    logits = torch.full((2, 20, 20), -30.0)
    logits[0, :, :10], logits[1, :, owned:] = 3.0, 6.0  # the second is surer where both are
    prediction, output = _answer([[0.9, 0.04, 0.03, 0.03], [0.02, 0.95, 0.02, 0.01]], logits)
    labels = LabelSet(tuple(Label(i, name, True) for i, name in enumerate("abc")))
    found = panoptic(prediction, 0, Frame((20, 20), (20, 20), (20, 20)), labels, EomtConfig.rule)
    assert sorted(found.labels.tolist()) == ([0, 1] if owned >= 8 else [1])
    processor = transformers.EomtImageProcessor(size={"shortest_edge": 20, "longest_edge": 20})
    theirs = processor.post_process_panoptic_segmentation(output, target_sizes=[(20, 20)], stuff_classes=[])[0]
    assert sorted(row["label_id"] for row in theirs["segments_info"]) == sorted(found.labels.tolist())
    assert found.map is not None
    assert ((found.map == 0) == (theirs["segmentation"].numpy() == -1)).all()


@torch.no_grad()
def test_a_block_without_masks_does_not_use_those_of_an_earlier_one() -> None:
    """transformers hands a mask made in one block on to later ones, whatever their probability."""
    ours = twin(theirs_of("dinov2")).float()
    ours.query_decoder.mask_probabilities.copy_(torch.tensor([1.0, 0.0, 1.0]))
    ours.query_decoder.load_state_dict(ours.query_decoder.state_dict())
    masks: list[Tensor | None] = []
    for block in ours.query_decoder.blocks:
        block.register_forward_pre_hook(lambda _, arguments: masks.append(arguments[2]))
    ours(batch(images().float()))
    assert [mask is None for mask in masks] == [False, True, False]


def test_a_vit_alone_gives_all_of_its_blocks() -> None:
    config = ViTConfig(32, 3, 4, 64, image_size=32)
    vit = ViT(config)
    assert len(vit.layers()) == len(vit.blocks) == 3
    patches, prefix = vit(torch.randn(2, 3, 32, 48))
    assert (patches.shape, prefix.shape) == ((2, 32, 2, 3), (2, 5, 32))


def differences(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A model on DINOv3 as its authors' file has it, and the backbone that is left out there, as the Hub has it."""
    torch.manual_seed(1)
    base = {
        name: torch.randn_like(tensor)
        for name, tensor in state.items()
        if name.startswith(("layers.", "embeddings.", "layernorm."))
    }
    file, stored = {}, {}
    for name, tensor in base.items():
        first, rest = name.split(".", 1)
        own = {"embeddings": "patch_embed", "layers": "blocks", "layernorm": "norm"}[first]
        file[f"network.encoder.backbone.{own}.{rest}"] = state[name] - tensor
        stored[f"{ {'layers': 'layer', 'layernorm': 'norm'}.get(first, first) }.{rest}"] = tensor
    rest_of_it = authors({name: tensor for name, tensor in state.items() if name not in base})
    return file | rest_of_it, stored | {"embeddings.mask_token": torch.zeros(1)}


def test_differences_to_a_backbone_are_added_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The authors' files of DINOv3 hold no encoder; without the backbone the message says what to do."""
    from segcli.config.backbones import PRETRAINED, Pretrained
    from segcli.errors import CheckpointError
    from segcli.weights import deltas

    theirs = theirs_of("dinov3", hidden_size=128, num_attention_heads=2, num_labels=133).float()
    config = parse_config(theirs.config.to_dict(), "config.json")
    state = theirs.state_dict()
    file, stored = differences(state)
    assert deltas.holds_differences(file)
    assert not deltas.holds_differences(state)
    monkeypatch.setitem(PRETRAINED, config.backbone.name, Pretrained(config.backbone, "dino", "", "org/dino"))
    monkeypatch.setattr(deltas, "read_backbone", lambda *_: stored)
    ours, unknown = key_map(config).read(deltas.whole(file, config, "a file"))
    assert unknown == []
    expected, _ = key_map(config).read(state)
    assert ours.keys() == expected.keys()
    torch.save(file, tmp_path / "pytorch_model.bin")
    converted = convert(tmp_path / "pytorch_model.bin").loaded.model.state_dict()
    assert all(torch.equal(converted[name], tensor) for name, tensor in ours.items())
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=1e-5)

    def gone(*_: object) -> None:
        from segcli.errors import WeightsUnavailable

        raise WeightsUnavailable("the Hub cannot be reached")

    monkeypatch.setattr(deltas, "read_backbone", gone)
    with pytest.raises(CheckpointError, match=r"only what training changed in org/dino.*licence must be accepted"):
        deltas.whole(file, config, "a file")
