"""Storage commitment (PS3.4 annex J): asked of destinations for results, and, where switched on, asked of this node."""
