"""From sources to segments: the one path that predict, eval and validation share."""
