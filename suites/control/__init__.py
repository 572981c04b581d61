"""Does Assay itself notice what it must? Lies told on purpose, on real brokers."""
