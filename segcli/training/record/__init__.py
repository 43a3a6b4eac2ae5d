"""What a run leaves: its folder and files, its log and trackers, its model card."""
