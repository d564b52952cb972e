"""The structural causal model on coded values: all mechanisms together, and the table as it sees it."""
