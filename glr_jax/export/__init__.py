"""Trained networks as files that other programs run: `python -m glr_jax.export`."""
