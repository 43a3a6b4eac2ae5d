"""What the views of a model are drawn from: one module a view, from a photo and a model to arrays.

Whatever is asked of a model here is asked of its parts and of what they record; no view knows a model by its name.
"""
