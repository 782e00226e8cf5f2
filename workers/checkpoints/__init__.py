"""Published checkpoints: read strictly, sorted out and written as bundles."""
