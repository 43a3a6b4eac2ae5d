"""A new model's `config.json` and `preprocessor_config.json`, such that transformers builds the same network."""

from __future__ import annotations

from typing import Any

from segcli.config import BackboneConfig, EfficientNetLite0Config, Mask2FormerConfig, ResNetConfig, SwinConfig
from segcli.types import InferenceSpec, LabelSet

_LEVELS = ["stage1", "stage2", "stage3", "stage4"]


def raw_config(config: Mask2FormerConfig, labels: LabelSet) -> dict[str, Any]:
    """The `config.json` of a configuration; `parse_config` reads it back."""
    return {
        "architectures": ["Mask2FormerForUniversalSegmentation"],
        "model_type": "mask2former",
        "activation_function": "relu",
        "backbone_config": _raw_backbone(config.backbone),
        "common_stride": 4,
        "feature_strides": [4, 8, 16, 32],
        "pre_norm": False,
        "enforce_input_projection": False,
        "feature_size": config.feature_size,
        "mask_feature_size": config.mask_feature_size,
        "hidden_dim": config.hidden_dim,
        "encoder_layers": config.encoder_layers,
        "encoder_feedforward_dim": config.encoder_feedforward_dim,
        "decoder_layers": config.decoder_layers,
        "dim_feedforward": config.dim_feedforward,
        "num_attention_heads": config.num_attention_heads,
        "num_queries": config.num_queries,
        "no_object_weight": config.no_object_weight,
        "dropout": 0.0,
        "dtype": "float32",
    } | label_names(labels)


def label_names(labels: LabelSet) -> dict[str, Any]:
    """The classes as transformers writes them."""
    return {
        "id2label": {str(index): label.name for index, label in enumerate(labels)},
        "label2id": {label.name: index for index, label in enumerate(labels)},
    }


def preprocessor(spec: InferenceSpec) -> dict[str, Any]:
    """The `preprocessor_config.json` of a protocol."""
    return {
        "image_processor_type": "Mask2FormerImageProcessor",
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "do_reduce_labels": False,
        "ignore_index": 255,
        "image_mean": [value / 255 for value in spec.mean],
        "image_std": [value / 255 for value in spec.std],
        "rescale_factor": 1 / 255,
        "resample": 2,
        "num_labels": len(spec.labels),
        "size": {"shortest_edge": spec.size.short, "longest_edge": spec.size.long},
        "size_divisor": spec.size.divisor,
    }


def _raw_backbone(config: BackboneConfig) -> dict[str, Any]:
    match config:
        case SwinConfig():
            return {
                "model_type": "swin",
                "embed_dim": config.embed_dim,
                "depths": list(config.depths),
                "num_heads": list(config.num_heads),
                "window_size": config.window_size,
                "mlp_ratio": config.mlp_ratio,
                "drop_path_rate": config.drop_path_rate,
                "patch_size": config.patch_size,
                "hidden_act": "gelu",
                "qkv_bias": True,
                "use_absolute_embeddings": False,
                "num_channels": 3,
                "out_features": _LEVELS,
            }
        case ResNetConfig():
            return {
                "model_type": "resnet",
                "depths": list(config.depths),
                "hidden_sizes": list(config.hidden_sizes),
                "embedding_size": config.embedding_size,
                "hidden_act": "relu",
                "layer_type": "bottleneck",
                "downsample_in_first_stage": False,
                "num_channels": 3,
                "out_features": _LEVELS,
            }
        case EfficientNetLite0Config():
            return {
                "model_type": "timm_backbone",
                "backbone": "tf_efficientnet_lite0",
                "features_only": True,
                "freeze_batch_norm_2d": False,
                "num_channels": 3,
                "out_indices": [1, 2, 3, 4],
                "use_pretrained_backbone": False,
            }
