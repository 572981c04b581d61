"""One folder a broker: its configurations, our end, a client's end, its definite errors."""
