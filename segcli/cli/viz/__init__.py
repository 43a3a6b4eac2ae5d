"""The commands of `segcli visualize`, a module each."""
