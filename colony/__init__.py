"""What every client of a colony shares: the wire schema, the table of operations, errors, the client and the settings."""

__version__ = "0.1.0"
