"""An embedded Ray for the tests that use it without the command line."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from cluster.connect import local_runtime_env


@contextmanager
def embedded_ray(**resources: float) -> Iterator[None]:
    """Start Ray with these resources, real or by pretence, and end it."""
    previous = os.environ.get("RAY_AUTH_MODE")
    os.environ["RAY_AUTH_MODE"] = "disabled"
    ray.init(
        address="local",
        include_dashboard=False,
        log_to_driver=False,
        runtime_env=local_runtime_env(),
        **resources,
    )
    yield
    gc.collect()  # another thread that does while Ray ends, would end the process: see cluster.connect
    ray.shutdown()
    os.environ.pop("RAY_AUTH_MODE")
    if previous is not None:
        os.environ["RAY_AUTH_MODE"] = previous
