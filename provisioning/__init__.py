"""Makes and changes what an agent needs on its machine."""
