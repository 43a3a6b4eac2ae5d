"""Bytes to arrays and back: images, run-length masks, panoptic id PNGs. Numpy and Pillow only, no torch."""
