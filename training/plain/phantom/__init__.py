"""A simulated frontal chest radiograph that knows the truth of everything it draws.

Lengths are millimetres in the thorax frame unless a name says pixels: origin at the carina, x towards the patient's
left (the image's right), y towards the feet.
"""
