"""Measures the colony against its budgets and, in the same run, against its peers."""
