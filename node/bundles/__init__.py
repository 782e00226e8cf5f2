"""Model bundles as the node knows them: their files, which are active, and what changes with that."""
