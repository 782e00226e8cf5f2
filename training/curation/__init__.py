"""From sources to a curated set: no film twice, no patient on two sides of a split, nothing unfit to learn from."""
