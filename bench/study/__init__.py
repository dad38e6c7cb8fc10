"""What a study of pruning kinds found: its record, the figures derived from it, its table and its plot."""
