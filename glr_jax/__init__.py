"""Music classifiers in JAX: a CRNN with Global Layer Regularization."""

from glr_jax import huge_pages

huge_pages.restart_with()
