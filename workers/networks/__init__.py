"""Networks in torch; imported only by the inference engine's own process and by training."""
