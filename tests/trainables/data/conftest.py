"""No test here cuts the power: waiting for the disk would only measure how busy it is."""

import pytest

from trainables.data import store


@pytest.fixture(autouse=True)
def unsynced(monkeypatch):
    monkeypatch.setattr(store, "sync", lambda path: None)
