"""Flagfiles, and the studies that run them."""

import glr_jax  # noqa: F401  # first of all, for its huge pages
