"""What the views of a model are drawn from: one module per view, from a photo and a model to arrays.

Views ask a model's parts and what they record; none depends on a model's name.
"""
