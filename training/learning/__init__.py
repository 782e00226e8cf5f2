"""How a network learns from examples: batches, losses, the loop."""
