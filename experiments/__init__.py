"""Flagfiles for training, and the studies: commands that train and measure."""

from glr_jax.devices import startup

if startup.is_command_of(__name__):  # `python -m experiments.NAME`, before it imports JAX
    startup.restart_with_huge_pages()
