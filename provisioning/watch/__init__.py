"""Looks after a host each minute: starts services that have given up, and tells #ops what goes wrong and what is well again."""
