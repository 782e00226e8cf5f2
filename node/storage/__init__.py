"""The object store: bytes under their SHA-256, on this host or another one, and what removes them again."""
