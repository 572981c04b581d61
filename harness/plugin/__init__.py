"""The pytest plugin: options, cells as tests, outcomes with a word for UNKNOWN, and what a session leaves behind."""
