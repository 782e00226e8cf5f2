"""Self-supervised pre-training: four methods, one trainer under them, recipes as data, export to bundles and back."""
