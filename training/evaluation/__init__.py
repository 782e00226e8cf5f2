"""What a bundle is worth: readings of phantoms and radiographs against the truth, figures with their intervals."""
