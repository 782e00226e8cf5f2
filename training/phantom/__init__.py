"""A simulated chest radiograph that knows the truth of everything it draws.

Lengths are millimetres in the patient frame unless a name says pixels: origin at the carina, x towards the patient's
left (the image's right in PA and AP), y towards the feet, z towards the back.
"""
