"""Study results: planned, described in words, looked up, read back, and withdrawn."""
