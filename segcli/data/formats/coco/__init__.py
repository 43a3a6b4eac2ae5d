"""COCO's files: instances and panoptic, read row by row."""
