"""Looks after a host every two minutes: starts services that have given up, and tells #ops what goes wrong and what is well again."""
