"""Everything that turns pixels into results: image reading, networks, the inference engine, result objects."""
