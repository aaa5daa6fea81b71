"""What a person types, what a terminal prints, and the fonts that have its letters."""
