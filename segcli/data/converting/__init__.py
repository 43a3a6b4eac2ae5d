"""A dataset written in another format, or in parts."""
