"""How datasets lie on disk, one module a format."""
