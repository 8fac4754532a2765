"""Servers that tests start: up when they answer, gone with all their children when the test is over."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import requests

PATIENCE = 240  # seconds


@contextmanager
def started(command: list[str], url: str, environment: dict[str, str]) -> Iterator[str]:
    """Run a server until the block ends; yield the URL once it answers there."""
    with tempfile.TemporaryFile("w+") as words:
        process = subprocess.Popen(
            command, env=environment, start_new_session=True, stdout=words, stderr=subprocess.STDOUT
        )
        try:
            for _ in range(PATIENCE):
                if process.poll() is not None:
                    words.seek(0)
                    raise RuntimeError(
                        f"{command} ended, exit code {process.returncode}: {words.read()[-2000:]}"
                    )
                try:
                    requests.get(url, timeout=2).raise_for_status()
                    break
                except requests.RequestException:
                    time.sleep(1)
            else:
                raise TimeoutError(f"{command} does not answer at {url}")
            yield url
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait()
