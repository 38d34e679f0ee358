"""A strict HTTP double of the Messages API, for tests and benches. It speaks to the real SDK over real HTTP.

    with running(latency=0.3) as double:
        client = Anthropic(api_key=double.key, base_url=double.base_url, max_retries=0)

As a process of its own: `python -m tests.double --port 0 --latency 0.3` prints its address as one JSON line.
"""

from tests.double.answers import Answer
from tests.double.faults import Fault
from tests.double.server import Double, running
from tests.double.state import BatchPlan

__all__ = ["Answer", "BatchPlan", "Double", "Fault", "running"]
