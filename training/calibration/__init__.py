"""From scores to calibrated scores and operating points, in a recipe or on local labels."""
