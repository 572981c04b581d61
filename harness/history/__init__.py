"""What happened in a run, as plain immutable data."""
