"""Looks for what can be wrong with a host and its agents without anyone noticing, and knows what to do about it; a noun in each file."""
