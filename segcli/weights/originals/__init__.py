"""Checkpoints of the authors' own code (facebookresearch/Mask2Former, MaskFormer, detr), made into models of segcli."""
