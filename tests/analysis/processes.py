"""Servers and browsers that tests start, gone with all their children when the test is over."""

import os
import shutil
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


@contextmanager
def chromium():
    """Start Debian's Chromium without a window; yield its driver, or None where it or Selenium is missing."""
    try:
        from selenium import webdriver
    except ImportError:
        webdriver = None
    if webdriver is None or not (shutil.which("chromium") and shutil.which("chromedriver")):
        yield None
        return
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
        options.add_argument(f"--{flag}")
    options.add_argument("--window-size=1280,1600")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver"), log_output=subprocess.DEVNULL)
    driver = webdriver.Chrome(options=options, service=service)
    try:
        yield driver
    finally:
        driver.quit()
