"""COCO's JSON files: found, checked, packed; what its formats share."""
