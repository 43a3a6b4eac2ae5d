"""The loops that do the work. They yield reports and never print."""
