"""From predictions and ground truth to the official metrics, and what limits them."""
