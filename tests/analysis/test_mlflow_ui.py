"""Our runs in MLflow's own pages, in a real browser: nested, named, sorted by the objective, with images."""

import time
from urllib.parse import quote

import pytest

from analysis.record.tables import load
from tests.fixtures.recorded import METRIC
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

    def open_page(place, *words, name, query=""):
        browser.get(f"{server}/#/experiments/{experiment}/{place}?{TRAINING}{query}")
        for _ in range(PATIENCE):
            text = " ".join(browser.find_element("tag name", "body").text.split())
            if all(word in text for word in words):
                break
            time.sleep(1)
        browser.save_screenshot(str(artifacts / f"mlflow_{name}.png"))
        assert all(word in text for word in words), text
        return text

    return open_page


def test_the_runs_table_shows_sweeps_with_their_trials_folded_under_them(page):
    text = page("runs", "one", "three", "matching runs", name="runs")
    assert "three-001" not in text


def test_trials_sort_by_the_objective(page, browser, client):
    only = quote("tags.`latentune.sweep` = 'id-one-0'")
    order = f"orderByKey={quote(f'metrics.`{METRIC}`')}&orderByAsc=true"
    page("runs", "one-002", name="sorted", query=f"&searchFilter={only}&{order}")
    best_first = [f"one-{n:03d}" for n in load(client, "one").best_first()["number"]]
    for _ in range(PATIENCE):  # the page shows the runs as they come, then sorts them
        links = browser.execute_script(ROWS)
        names = [name for name in links if name in best_first]
        if names == best_first:
            break
        time.sleep(1)
    assert names == best_first


def test_the_sweeps_run_says_what_it_is_and_lists_its_trials(page, client):
    run_id = load(client, "one").sweep.run_id
    page(f"runs/{run_id}", "made up for a test", "one-012", "Child runs", name="sweep")


def test_a_trials_images_are_on_its_page(page, browser, client, artifacts):
    trials = load(client, "one").trials
    page(f"runs/{trials['run_id'][1]}/model-metrics", "loss (4)", name="trial")
    for _ in range(PATIENCE):
        browser.execute_script(SCROLL_DOWN)
        widths = browser.execute_script("return [...document.images].map(image => image.naturalWidth)")
        if any(width >= 100 for width in widths):
            break
        time.sleep(1)
    browser.save_screenshot(str(artifacts / "mlflow_images.png"))
    assert any(width >= 100 for width in widths), widths
