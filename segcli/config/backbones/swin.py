"""Swin Transformer (arXiv 2103.14030)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from segcli.config.backbones import LEVELS, PRETRAINED, BackboneConfig, Pretrained
from segcli.config.checks import check_facts, check_heads, per_stage, settings, share

_FACTS = {"hidden_act": "gelu", "qkv_bias": True, "use_absolute_embeddings": False, "num_channels": 3}
_NAMES: dict[tuple[int, tuple[int, ...]], str] = {
    (96, (2, 2, 6, 2)): "swin-tiny",
    (96, (2, 2, 18, 2)): "swin-small",
    (128, (2, 2, 18, 2)): "swin-base",
    (192, (2, 2, 18, 2)): "swin-large",
}


@dataclass(frozen=True)
class SwinConfig(BackboneConfig):
    """Swin, in the names of its Hugging Face configuration."""

    embed_dim: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    window_size: int
    mlp_ratio: float = 4.0
    drop_path_rate: float = 0.0
    patch_size: int = 4

    module: ClassVar[str] = "swin"
    described: ClassVar[str] = "swin"

    @classmethod
    def parse(cls, raw: dict[str, Any], where: str) -> Self | None:
        """Of a `backbone_config`; None if it is of another kind."""
        if raw.get("model_type") not in ("swin", "maskformer-swin"):  # the second is transformers' copy for MaskFormer
            return None
        check_facts(raw, _FACTS | {"out_features": LEVELS}, where)
        entries = settings(raw, where)
        config = cls(
            embed_dim=entries.whole("embed_dim", 96, least=1),
            depths=per_stage(raw, "depths", (2, 2, 6, 2), where),
            num_heads=per_stage(raw, "num_heads", (3, 6, 12, 24), where),
            window_size=entries.whole("window_size", 7, least=1),
            mlp_ratio=entries.number("mlp_ratio", 4.0, least=0.01, most=100),
            drop_path_rate=share(raw, "drop_path_rate", 0.1, where),
            patch_size=entries.whole("patch_size", 4, least=1),
        )
        for stage, heads in enumerate(config.num_heads):
            check_heads(config.embed_dim * 2**stage, heads, where)
        return config

    def raw(self) -> dict[str, Any]:
        """The `backbone_config`; `parse` reads it back."""
        return {
            "model_type": "swin",
            "embed_dim": self.embed_dim,
            "depths": list(self.depths),
            "num_heads": list(self.num_heads),
            "window_size": self.window_size,
            "mlp_ratio": self.mlp_ratio,
            "drop_path_rate": self.drop_path_rate,
            "patch_size": self.patch_size,
            "out_features": LEVELS,
        } | _FACTS

    @property
    def name(self) -> str:
        """ "swin-tiny", …; of one that was not published, its width."""
        return _NAMES.get((self.embed_dim, self.depths), f"swin of width {self.embed_dim}")


for _name, _depths in (("tiny", (2, 2, 6, 2)), ("small", (2, 2, 18, 2))):
    PRETRAINED[f"swin-{_name}"] = Pretrained(
        SwinConfig(96, _depths, (3, 6, 12, 24), window_size=7, drop_path_rate=0.3),
        "timm_swin",
        "MIT",
        f"timm/swin_{_name}_patch4_window7_224.ms_in1k",
    )
