"""Checkpoints of the authors' own code (facebookresearch/Mask2Former, MaskFormer, detr), converted to segcli models."""
