"""What audit, diagnosis, pictures and report share: a fitted model of any kind, and its table before and after."""
