"""Our runs in MLflow's own pages, in a real browser: nested, named, sorted by the objective, with images."""

import re
import time

import pytest

from analysis.judgement.promotion import described
from analysis.record.tables import load
from tests.fixtures.waits import PATIENCE

TRAINING = "workflowType=machine_learning"  # without it the pages open in "GenAI" mode, which hides the runs
SCROLL_DOWN = "for (const e of document.querySelectorAll('*')) e.scrollTop = e.scrollHeight"
# The table's rows stand in the document as they came; only their places on the screen are sorted.
ROWS = """return [...document.querySelectorAll("a")]
    .sort((a, b) => a.getBoundingClientRect().top - b.getBoundingClientRect().top)
    .map(a => a.innerText.trim())"""

pytestmark = pytest.mark.slow


@pytest.fixture
def page(browser, server, client, artifacts):
    """Opens a page of the experiment, waits until words are on it, and keeps a picture."""
    experiment = load(client, "one").sweep.experiment_id

    def open_page(place, *words, name):
        browser.set_window_size(1920, 1400)  # columns that are off the screen are not in the document
        kind = "" if "?" in place else f"?{TRAINING}"
        browser.get(f"{server}/#/{place.format(experiment=experiment)}{kind}")
        for _ in range(PATIENCE):
            text = " ".join(browser.find_element("tag name", "body").text.split())
            if all(word in text for word in words):
                break
            time.sleep(1)
        browser.save_screenshot(str(artifacts / f"mlflow_{name}.png"))
        assert all(word in text for word in words), text
        return text

    return open_page


def test_the_runs_table_shows_sweeps_with_their_trials_folded_under_them(page, client):
    text = page("experiments/{experiment}/runs", "one", "three", "matching runs", name="runs")
    assert load(client, "three").trials["name"][0] not in text


def test_the_printed_link_opens_the_trials_the_best_first(page, browser, client):
    """Sorted and filtered, named after what varies, with what varies, the score and the state as columns."""
    view = "workflowType=machine_learning&viewStateShareKey=id-one-0"
    names = load(client, "one").best_first()["name"]
    assert all(re.fullmatch(r"\d{3} β=[\d.]+", name) for name in names)
    text = page(f"experiments/{{experiment}}/runs?{view}", names.iloc[0], "latentune.status", name="link")
    assert "Parameters beta" in text or ("Parameters" in text and "beta" in text)
    assert "three" not in text
    for _ in range(PATIENCE):  # the page shows the runs as they come, then sorts them
        links = browser.execute_script(ROWS)
        shown = [name for name in links if name in set(names)]
        if shown == list(names):
            break
        time.sleep(1)
    assert shown == list(names)


def test_the_sweeps_run_says_what_it_is_and_lists_its_trials(page, client):
    run_id = load(client, "one").sweep.run_id
    trial = load(client, "one").trials["name"].iloc[-1]
    page(f"experiments/{{experiment}}/runs/{run_id}", "made up for a test", trial, "Child runs", name="sweep")


def test_a_trials_images_are_on_its_page(page, browser, client, artifacts):
    trials = load(client, "one").trials
    place = f"experiments/{{experiment}}/runs/{trials['run_id'][1]}/model-metrics"
    page(place, "loss (4)", name="trial")
    for _ in range(PATIENCE):
        browser.execute_script(SCROLL_DOWN)
        widths = browser.execute_script("return [...document.images].map(image => image.naturalWidth)")
        if any(width >= 100 for width in widths):
            break
        time.sleep(1)
    browser.save_screenshot(str(artifacts / "mlflow_images.png"))
    assert any(width >= 100 for width in widths), widths
    assert "No image logged at this step" not in browser.find_element("tag name", "body").text


def test_a_registered_version_shows_its_picture_and_its_verdict(page, browser, client):
    tables = load(client, "one")
    best = tables.best_first().iloc[0]
    client.create_registered_model("pictured")
    source = f"{client.get_run(best['run_id']).info.artifact_uri}/images"
    version = client.create_model_version("pictured", source, best["run_id"]).version
    client.update_model_version("pictured", version, described(client, tables, best))
    page(f"models/pictured/versions/{version}", f"Best: trial {best['number']}", "grey", name="version")
    shown = "return [...document.images].map(i => i.src.includes('get-artifact') ? i.naturalWidth : 0)"
    for _ in range(PATIENCE):
        if max(browser.execute_script(shown), default=0) >= 100:
            break
        time.sleep(1)
    assert max(browser.execute_script(shown)) >= 100
