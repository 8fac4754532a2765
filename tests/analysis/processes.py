"""Servers that tests start: up when they answer, gone with all their children when the test is over."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import requests

PATIENCE = 240  # seconds


@contextmanager
def started(command: list[str], url: str, environment: dict[str, str]) -> Iterator[str]:
    """Run a server until the block ends; yield the URL once it answers there."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, env=environment, start_new_session=True, **quiet)
    try:
        for _ in range(PATIENCE):
            if process.poll() is not None:
                raise RuntimeError(f"{command} ended with exit code {process.returncode}")
            try:
                requests.get(url, timeout=2).raise_for_status()
                break
            except requests.RequestException:
                time.sleep(1)
        else:
            raise TimeoutError(f"{command} does not answer at {url}")
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
