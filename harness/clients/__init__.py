"""Producers and consumers, one operating-system process each."""
