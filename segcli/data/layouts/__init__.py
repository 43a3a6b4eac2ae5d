"""How images and their label files lie in folders, and what the values in label files mean."""
