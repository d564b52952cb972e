"""The structural causal model on coded values: all mechanisms together, and the standardized table."""
