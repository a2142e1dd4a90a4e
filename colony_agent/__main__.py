"""`python -m colony_agent` is `colony-agent`."""

from colony_agent.cli import main

main()
