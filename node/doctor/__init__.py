"""`chexnode doctor`: asks every part of an installation how it is, and says what is wrong and what to do about it."""
