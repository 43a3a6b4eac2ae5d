"""Tables between the tensor names of published checkpoints and the names here. Tables only; `keymap.py` reads them."""
