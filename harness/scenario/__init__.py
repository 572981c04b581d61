"""Experiments written down before they run, as plain data."""
