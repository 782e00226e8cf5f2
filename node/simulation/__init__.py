"""`chexnode triage simulate`: what an order of the worklist gains and costs, in numbers."""
