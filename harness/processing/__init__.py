"""What a consumer does with a delivery, one mechanism a file."""
