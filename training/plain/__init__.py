"""The flat phantom of the shipped bundle 0.1.0, and how that bundle is made and evaluated."""
