"""Images to features and embeddings with a trained network."""
