"""NATS, from core to what its documentation calls exactly once."""
