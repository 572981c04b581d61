"""A broker with bugs to order."""
