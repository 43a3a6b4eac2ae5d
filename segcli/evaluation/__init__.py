"""From predictions and truth to the official numbers, and what holds them back."""
