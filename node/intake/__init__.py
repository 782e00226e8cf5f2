"""What becomes of a received object: read, recorded, routed, set aside, or told apart from what is there already."""
