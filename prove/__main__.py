"""`python -m prove` is `colony prove`."""

from prove.cli import main

main()
