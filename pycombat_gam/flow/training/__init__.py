"""One loop that fits any mechanism of the features: rows in, descent, checkpoints, progress."""
