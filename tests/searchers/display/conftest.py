"""Where these tests leave what a person may look at."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def pictures():
    """The folder for screens; git ignores it."""
    folder = Path(__file__).parents[2] / "artefacts"
    folder.mkdir(exist_ok=True)
    return folder
