"""What every part of CheXNode agrees on: documents, vocabulary, settings, errors, database tables."""
