"""Clips: reading and writing them, and ids that stay with an object from frame to frame."""
