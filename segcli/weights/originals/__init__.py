"""Checkpoints of the authors' own code (facebookresearch/Mask2Former, MaskFormer), made into models of segcli."""
