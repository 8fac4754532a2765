"""One cap for all thread pools: a process that takes more than its share slows every trial on the node."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits

from trainables.metrics.errors import MetricError

MOST = 1024


@contextmanager
def thread_limit(threads: int | None) -> Iterator[None]:
    """Cap torch, BLAS and OpenMP to this many threads inside the block; None changes nothing.

    Oversubscription is worse than no parallelism: an eigen-decomposition of 1.3 s took 14 to 19 s beside a
    second process with two threads on two cores. Raises MetricError where threads is below 1 or above
    `MOST`: OpenMP ends the process where it has no memory for their stacks.
    """
    if threads is None:
        yield
        return
    if not 1 <= threads <= MOST:
        raise MetricError(f"threads is {threads}; it must be from 1 to {MOST}, or None for no cap")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with threadpool_limits(limits=threads):
            yield
    finally:
        torch.set_num_threads(before)
