"""Datasets as they lie on disk: detection, one file a format, checks, augmentation, batches."""
