"""Everything that makes a model bundle: phantom, networks' training, evaluation, regeneration."""
