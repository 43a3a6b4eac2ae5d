"""For looking at results: galleries, the report page and the views into a model."""
