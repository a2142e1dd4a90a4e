"""`python -m egress` is `colony-egress`."""

from egress.cli import main

main()
