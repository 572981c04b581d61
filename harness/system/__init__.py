"""Protocols of what is broken and measured: nodes, links, brokers, sinks, and the system of them all."""
