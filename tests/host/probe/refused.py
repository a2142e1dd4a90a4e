"""What an attempt raises that was refused by other means than an errno."""

from __future__ import annotations


class Refused(Exception):
    """Its text is the outcome."""
