"""Images through a user's own network to a table: no weights, no downloads, no training."""
