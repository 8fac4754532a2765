"""The page of a running sweep: what it answers and to whom, and how it redraws in a real browser."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from unittest.mock import Mock
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from mlflow import MlflowClient

from analysis import live
from analysis.live import LivePage
from tests.fixtures.recorded import METRIC, Imagined, record
from tests.fixtures.waits import wait_until

GOING_ON = Imagined("now", trials=4, begun=2, status=None, images=True, references=(206.0, 100.3, 1.5))
MOMENT = {
    "dimensions": ["beta"],
    "metric": METRIC,
    "epochs": 9,
    "head": "1 of 40 trials ended, 12 min so far, 8 min to 11 min left",
    "spent": "CPU 20 min spent",
    "last": "",
    "books": "Books: the ledger holds 9 kB, all of which MLflow has.",
    "rows": [
        {
            "number": 2,
            "settings": [37.5],
            "epoch": 9,
            "score": 130.0,
            "state": "running",
            "why": "",
            "wrong": "",
        },
        {
            "number": 9,
            "settings": [75.0],
            "epoch": 3,
            "score": 150.25,
            "state": "waiting",
            "why": "epoch 3: 150.2, 7th of 9, cut 121",
            "wrong": "all samples alike",
        },
    ],
}


@pytest.fixture
def running(tmp_path):
    """A sweep of two trials that goes on, and the folder of its ledger."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    MlflowClient(uri).create_experiment("beta-vae-gan", artifact_location=str(tmp_path / "artefacts"))
    record(GOING_ON, tmp_path / "sweep", uri)
    (tmp_path / "moment.json").write_text(json.dumps(MOMENT))
    return uri, tmp_path


@pytest.fixture
def served(running):
    """The page's address, served by a process as a sweep's driver starts it."""
    uri, folder = running
    command = [sys.executable, "-m", "analysis.live", "--sweep", "now", "--tracking-uri", uri]
    process = subprocess.Popen(
        [*command, "--moment", str(folder / "moment.json")],
        env=os.environ | {"XDG_CACHE_HOME": str(folder / "cache")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield re.search(r"http://127.0.0.1:\d+/\S+/", process.stdout.readline())[0]
    process.stdin.close()  # as it is when the driver ends
    assert process.wait() == 0
    process.stdout.close()


def status(address):
    try:
        with urlopen(address) as answer:
            return answer.status
    except HTTPError as error:
        return error.code


def test_a_sweep_is_sent_once_and_again_when_it_has_changed(running, monkeypatch):
    uri, folder = running
    monkeypatch.setattr(live, "SHORTEST_REST", 0.0)
    monkeypatch.setattr(live, "RESTS", 0)
    page = LivePage(uri, "now", folder / "moment.json")
    first = page.news("")
    assert first["moment"] == MOMENT and first["says"] == "" and len(first["sweep"]["trials"]) == 2
    assert all(trial["images"]["samples"] for trial in first["sweep"]["trials"])
    assert page.news(first["seen"])["sweep"] is None
    page._images["a run", "an image of an epoch that has gone by"] = "data:"
    record(replace(GOING_ON, begun=4), folder / "sweep", uri)
    again = page.news(first["seen"])
    assert len(page._images) == sum(len(trial["images"]) for trial in again["sweep"]["trials"]) > 0
    assert len(again["sweep"]["trials"]) == 4 and again["seen"] != first["seen"]


def test_the_page_rests_between_readings(running):
    uri, folder = running
    page = LivePage(uri, "now", None)
    first = page.news("")
    record(replace(GOING_ON, begun=4), folder / "sweep", uri)
    assert page.news(first["seen"])["sweep"] is None and page.news("")["moment"] is None


@pytest.mark.parametrize(
    ("uri", "sweep", "said"),
    [
        ("sqlite:///{}/mlflow.db", "none", "has no sweep 'none'"),
        ("sqlite:///{}/nowhere.db", "now", "nowhere.db"),
    ],
)
def test_what_keeps_the_record_from_being_read_is_said(running, uri, sweep, said):
    page = LivePage(uri.format(running[1]), sweep, None)
    assert said in page.news("")["says"] and page.content is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--sweep", "nosuch"), "MLflow has no sweep 'nosuch'; the latest are: now."),
        (("--sweep", "now", "--port", "99999"), "--port 99999 can't be used: "),
        (("--sweep", "now", "--port", "-1"), "--port -1 can't be used: "),
    ],
)
def test_a_page_that_cannot_be_served_is_not_begun(arguments, said, running, capsys, monkeypatch):
    monkeypatch.setattr("os.nice", Mock())
    monkeypatch.setattr(live.PageServer, "serve_forever", Mock())
    assert live.main([*arguments, "--tracking-uri", running[0]]) == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_whatever_is_wrong_with_a_reading_the_next_one_is_tried(running, monkeypatch):
    monkeypatch.setattr(live, "SHORTEST_REST", 0.0)
    monkeypatch.setattr(live, "RESTS", 0)
    page = LivePage(running[0], "now", None)
    with monkeypatch.context() as broken:
        broken.setattr("analysis.record.tables.load", Mock(side_effect=OSError("the disk is full. Or so")))
        assert page.news("")["says"] == "The record cannot be read now: the disk is full."
    assert page.news("")["says"] == "" and page.content


def test_who_has_no_token_is_told_nothing(served):
    root, token = served.rstrip("/").rsplit("/", 1)
    assert status(served) == 200 and len(token) >= 20
    assert [status(f"{root}/{path}") for path in ("", "data", "x/", f"x{token}/", f"{token}/other")] == [
        404
    ] * 5


def test_the_page_redraws_as_results_arrive(served, running, browser, artifacts):
    uri, folder = running
    browser.get(served)

    def found(what):
        return browser.execute_script(f"return document.querySelectorAll({json.dumps(what)}).length")

    wait_until(lambda: found("#curves g.trial") == 2)
    text = browser.find_element("tag name", "body").text
    assert MOMENT["head"] in text and MOMENT["books"] in text and MOMENT["spent"] in text
    waits = browser.find_element("css selector", "[data-now='9']").text
    assert "waiting" in waits and "7th of 9, cut 121; all samples alike" in waits
    best = browser.execute_script("return data.winner")
    cards = browser.execute_script("return [...document.querySelectorAll('.card')].map(e => +e.dataset.card)")
    assert cards == list(dict.fromkeys([best, 2])) and found(".card img") >= len(cards)  # 2 is running
    browser.execute_script("choose(1); for (const n of [...chosen]) if (n !== 1) choose(n)")
    browser.execute_script("""
        const real = window.fetch;
        let fails = 2;
        window.fetch = (...asked) => fails-- > 0 ? Promise.reject(new Error("away")) : real(...asked);
    """)
    record(replace(GOING_ON, begun=4), folder / "sweep", uri)
    (folder / "moment.json").write_text(json.dumps(MOMENT | {"head": "3 of 40 trials ended"}))
    wait_until(lambda: found("#curves g.trial") == 4)
    assert "3 of 40 trials ended" in browser.find_element("id", "live").text
    assert not found("#over")
    assert found(".card") == found("[data-card='1']") == 1  # what a person has chosen stays
    browser.save_screenshot(str(artifacts / "live.png"))
    assert not browser.get_log("browser")
