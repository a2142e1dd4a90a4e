"""The peers: job queues that people would take instead, with their real workers."""
from bench.figures import Plan
def enqueue_rates(plan: Plan, clients: int) -> dict[str, float]:
    return {}
