"""One loop that fits any mechanism of the features: rows, descent, checkpoints, progress."""
