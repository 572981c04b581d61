"""Pages made of finished runs."""
