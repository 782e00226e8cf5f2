"""Delivery of result objects: per destination, from the ledger, until the destination's own answer says it has them."""
