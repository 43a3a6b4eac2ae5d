"""From a dataset and a recipe to a model: the loop and what it needs."""
