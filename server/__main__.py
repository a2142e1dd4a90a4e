"""`python -m server` is `colony-server`."""

from server.cli import main

main()
