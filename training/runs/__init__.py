"""Regeneration as work of the node: asked for, scheduled, leased, watched."""
