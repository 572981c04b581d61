"""Ways to break a system, each proved to bite and always mended."""
