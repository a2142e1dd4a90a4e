"""Makes a machine a host of agents, keeps it one, and ends that."""
