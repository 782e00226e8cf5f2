"""What a training learns from, as the model will see it: phantoms and radiographs in one store."""
