"""The worklist page and its API: what radiologists and administrators see of the node in a browser."""
