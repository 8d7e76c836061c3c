"""Flagfiles, and the studies that run them."""
