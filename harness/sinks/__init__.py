"""Where processing leaves its effects."""
