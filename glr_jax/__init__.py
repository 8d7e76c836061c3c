"""Music classifiers in JAX: a CRNN with Global Layer Regularization."""
