"""Devices and processes: one per-device program on all of them. Knows no model and no data."""
