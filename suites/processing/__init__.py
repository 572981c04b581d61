"""What a consumer does with a message, and what is left of it when it dies."""
