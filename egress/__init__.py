"""The egress gate: the one way from an agent's sandbox to the network, which decides about every connection."""
