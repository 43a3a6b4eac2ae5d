"""Files on disk: names and places, reading what is checked, writing whole or not at all, locks."""
