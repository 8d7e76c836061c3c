"""Kills, full disks, flipped bits and broken input, in numbers: `python -m tests.torture`."""
