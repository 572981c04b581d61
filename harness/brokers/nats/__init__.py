"""NATS core and JetStream."""
