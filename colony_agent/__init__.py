"""The agent's side of a colony: the idle worker, the turn, what thinks (runner), where (sandbox) and with which tools."""
