"""What a model tells a report of itself: its name, sentences and papers, and the tables of what it estimated."""
