"""The report: whole, self-contained, honest about what it knows; driven in a real browser if there is one."""

import base64
import csv
import io
import json
import re
import shlex
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from analysis import figures, report
from analysis.charts.latent import Subject
from analysis.record import images
from analysis.record.sweeps import find, sweeps
from analysis.record.tables import load
from tests.fixtures.recorded import METRIC, Imagined, record
from trainables.data.batches import to_float


@pytest.fixture(scope="module")
def page(client, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "one.html"
    assert report.main(["--sweep", "one", "--tracking-uri", client.tracking_uri, "--output", str(path)]) == 0
    return path


def embedded(path):
    """Return what the page holds of its first sweep."""
    return all_embedded(path)[0]


def all_embedded(path):
    text = path.read_text(encoding="utf-8")
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])


def test_every_trial_is_there_with_its_last_images(client, page):
    data, tables = embedded(page), load(client, "one")
    assert [trial["number"] for trial in data["trials"]] == list(tables.trials["number"])
    for trial, row in zip(data["trials"], tables.trials.itertuples(), strict=True):
        assert trial["status"] == row.status and trial["epoch"] == row.epoch
        assert [epoch for epoch, _ in trial["curve"]] == list(
            tables.curves(METRIC)[row.number].dropna().index
        )
        assert set(trial["images"]) == {"samples", "reconstructions"}
        stopped = row.status == "stopped"
        assert ("9th of 9, cut 100" in trial["standing"]) == stopped
        assert trial["expected"] == (
            [pytest.approx(trial["value"] - 20 + k) for k in (0, -9, 9)] if stopped else None
        )
        last = "9" if row.status == "finished" else "1"
        assert last in trial["images"]["samples"]
        assert trial["images"]["samples"][last].startswith("data:image/png;base64,")
    best = min((t for t in data["trials"] if t["value"] is not None), key=lambda t: t["value"])
    assert best["rank"] == 1 and data["winner"] == best["number"]


def test_the_page_needs_no_network(page):
    text = page.read_text(encoding="utf-8")
    assert not re.findall(r'(?:src|href)="(?!data:)', text)
    fetched = [url for url in re.findall(r"https?://[^\s\"'<>\\]+", text) if "w3.org" not in url]
    assert not fetched


def test_the_answer_says_what_is_not_known(page):
    data = embedded(page)
    assert any("These weights cannot be told apart from those of" in words for words in data["details"])
    assert any("is no FID" in caveat for caveat in data["caveats"])
    assert any("Another training seed" in caveat for caveat in data["caveats"])
    assert any(caveat.startswith("P(best) is of drawing other images. Tied") for caveat in data["caveats"])
    assert data["commands"][0] == "python -m searchers.beta_vaegan --name one"


def test_the_commands_can_be_pasted_whatever_the_sweeps_name(client):
    sweep = replace(load(client, "one").sweep, name="a sweep")
    _, *further = report.commands(sweep, "sqlite:////a b/mlflow.db")
    for command in further:
        assert shlex.split(command)[2:6] == [
            "--sweep",
            "a sweep",
            "--tracking-uri",
            "sqlite:////a b/mlflow.db",
        ]


def test_a_value_cannot_end_the_data(client, monkeypatch):
    tables = load(client, "one")
    tables.sweep.params["note"] = "</script><script>alert(1)</script>"
    assert "</script><script>alert" not in report.render([report.content(client, tables, None)])


def test_the_images_stay_within_their_budget(client, monkeypatch):
    monkeypatch.setattr(images, "IMAGE_BYTES", 20_000)
    found = images.images_of(client, load(client, "one"), [3, 1])
    shown = [(n, epoch) for n, keys in found.items() for epochs in keys.values() for epoch in epochs]
    assert 0 < sum(len(uri) for k in found.values() for e in k.values() for uri in e.values()) < 28_000
    assert shown[0][0] == 3  # the best first


def test_an_image_that_has_no_room_leaves_room_for_others(client, monkeypatch):
    sizes = iter([500, 30_000, *[500] * 1000])
    monkeypatch.setattr(images, "IMAGE_BYTES", 20_000)
    monkeypatch.setattr(images, "encoded", lambda path, form: (path.name, next(sizes)))
    found = images.images_of(client, load(client, "one"), [3, 1])
    shown = [key for keys in found.values() for key in keys]
    assert shown[0] == "samples" and len(found) > 1


def test_nothing_is_fetched_that_has_no_room(client, monkeypatch):
    """Of the twelve trials two last images each are tried; the first earlier one ends it."""
    fetched = []
    fetch = client.download_artifacts
    monkeypatch.setattr(images, "encoded", lambda path, form: ("", images.IMAGE_BYTES + 1))
    monkeypatch.setattr(client, "download_artifacts", lambda *a: (fetched.append(a), fetch(*a))[1])
    assert images.images_of(client, load(client, "one"), [3, 1]) == {}
    named = [len(images.last_images(client, run_id)) for run_id in load(client, "one").trials["run_id"]]
    assert len(fetched) == sum(named) + 1


def test_a_choice_stands_over_its_name(browser, client, tmp_path):
    """Also one that JSON and MLflow write in another way, and where some choices were not tried."""
    data = report.content(client, load(client, "one"), None, ())
    data["space"]["beta"] = report.shown_domain({"type": "categorical", "choices": [False, None, True, 1.0]})
    assert data["space"]["beta"]["choices"] == ["False", "None", "True", 1.0]
    for trial in data["trials"]:
        trial["params"]["beta"] = ("None", "True", "1.0")[trial["number"] % 4 % 3]
    (tmp_path / "x.html").write_text(report.render([data]))
    browser.get((tmp_path / "x.html").as_uri())
    names = browser.execute_script(
        "return [...document.querySelectorAll('#scatter text')]"
        ".map(e => [e.textContent, +e.getAttribute('x')])"
    )
    places = {name: x for name, x in names if name in ("False", "None", "True", "1")}
    assert len(set(places.values())) == 4
    drawn = browser.execute_script(
        "return [...document.querySelectorAll('#scatter circle')].map(e => +e.getAttribute('cx'))"
    )
    assert {round(x) for x in drawn} == {round(places[name]) for name in ("None", "True", "1")}


def test_a_sweep_without_images_or_scores(client, tmp_path, capsys):
    assert report.main(["--sweep", "empty", "--tracking-uri", client.tracking_uri]) == 2
    assert "Sweep 'empty' has no trial." in capsys.readouterr().err
    path = tmp_path / "three.html"
    assert (
        report.main(["--sweep", "three", "--tracking-uri", client.tracking_uri, "--output", str(path)]) == 0
    )
    assert all(trial["images"] == {} for trial in embedded(path)["trials"])


def test_a_person_selects_trials_and_sees_their_images_side_by_side(browser, page, artifacts):
    browser.get("about:blank")
    browser.get_log("browser")  # of another test's page
    begin = time.perf_counter()
    browser.get(page.as_uri())
    print(f"opened in {time.perf_counter() - begin:.2f} s")
    data = embedded(page)
    cards = browser.find_elements("css selector", "[data-card]")
    assert [card.get_attribute("data-card") for card in cards] == [str(data["winner"])]
    other = next(trial["number"] for trial in data["trials"] if trial["number"] != data["winner"])
    browser.find_element("css selector", f"[data-row='{other}']").click()
    cards = browser.find_elements("css selector", "[data-card]")
    assert [card.get_attribute("data-card") for card in cards] == [str(data["winner"]), str(other)]
    shown = cards[1].find_element("css selector", "img")
    assert shown.get_attribute("src") == data["trials"][other - 1]["images"]["samples"]["9"]
    assert browser.execute_script("return arguments[0].naturalWidth", shown) > 0
    slider = cards[1].find_element("css selector", "input[type=range]")
    script = "arguments[0].value = 0; arguments[0].dispatchEvent(new Event('input'))"
    browser.execute_script(script, slider)
    assert shown.get_attribute("src") == data["trials"][other - 1]["images"]["samples"]["0"]
    assert "before training" in cards[1].text
    browser.save_screenshot(str(artifacts / "report.png"))
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def test_a_person_points_at_a_curve_and_reads_its_settings(browser, page):
    from selenium.webdriver import ActionChains

    browser.get(page.as_uri())
    point = browser.find_element("css selector", "#scatter [data-trial='2'] circle")
    ActionChains(browser).move_to_element(point).perform()
    tip = browser.find_element("id", "tip")
    assert tip.is_displayed() and "trial 2, finished" in tip.text and "β = " in tip.text


def test_references_are_told_and_drawn(folder, client, browser, tmp_path):
    imagined = Imagined("referred", trials=3, images=False, stopping=False, references=(206.0, 100.3, 10.0))
    record(imagined, folder / "referred", client.tracking_uri)
    path = tmp_path / "referred.html"
    arguments = ["--sweep", "referred", "--tracking-uri", client.tracking_uri, "--output", str(path)]
    assert report.main(arguments) == 0
    data = embedded(path)
    assert "it does not beat the mean training image, which scores 100.3." in data["answer"]
    assert data["references"][1] == {"name": "mean image", "value": 100.3}
    browser.get(path.as_uri())
    for chart in ("curves", "scatter"):
        lines = browser.find_elements("css selector", f"#{chart} [data-reference]")
        names = [line.get_attribute("data-reference") for line in lines]
        assert sorted(names) == ["grey", "mean image", "real images"]


def test_a_run_that_was_renamed_writes_no_file_elsewhere(folder, client, tmp_path, monkeypatch):
    """MLflow's UI lets a person call a run "../x"."""
    monkeypatch.chdir(tmp_path)
    imagined = Imagined("plain", trials=2, images=False, stopping=False)
    record(imagined, folder / "plain", client.tracking_uri)
    sweep = find(client, "plain")
    client.update_run(sweep.run_id, name="../../[/red] out")
    arguments = ["--sweep", sweep.sweep_id, "--tracking-uri", client.tracking_uri]
    assert report.main(arguments) == 0
    assert figures.main([*arguments, "--only", "curves"]) == 0
    written = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.suffix in (".html", ".png")}
    assert written == {"_..___red_ out.html", "figures/_..___red_ out/curves.png"}


def test_the_question_and_the_times_are_said_as_people_say_them(client):
    assert report.question(load(client, "one")) == (
        "Which β gives VAEGAN the lowest Fréchet distance (efficientnet_lite0)?"
    )
    said = [report.duration(seconds) for seconds in (1, 59, 61, 5400, 9000)]
    assert said == ["1 second", "59 seconds", "1 minute", "90 minutes", "2.5 hours"]


def test_a_person_without_a_mouse_sorts_chooses_and_zooms(browser, page, artifacts):
    from selenium.webdriver import Keys

    def press(*keys):
        for key in keys:
            browser.switch_to.active_element.send_keys(key)

    def focused(name):
        return browser.execute_script("return document.activeElement.dataset[arguments[0]]", name)

    browser.get(page.as_uri())
    data = embedded(page)
    browser.execute_script("document.querySelector('[data-sort=trial]').focus()")
    press(Keys.ENTER, Keys.ENTER)  # by trial, then the other way round
    rows = [e.get_attribute("data-row") for e in browser.find_elements("css selector", "[data-row]")]
    assert rows == [str(n) for n in range(len(data["trials"]), 0, -1)] and focused("sort") == "trial"
    browser.execute_script("document.querySelector('[data-row]').focus()")
    press(Keys.ARROW_DOWN, Keys.ENTER)
    assert focused("row") == rows[1]
    cards = [e.get_attribute("data-card") for e in browser.find_elements("css selector", "[data-card]")]
    assert cards == [str(data["winner"]), rows[1]]
    browser.execute_script("document.querySelector('#scatter [tabindex=\"0\"]').focus()")
    press(Keys.ARROW_RIGHT)
    tip = browser.find_element("id", "tip")
    assert tip.is_displayed() and f"trial {focused('trial')}," in tip.text
    browser.execute_script("document.querySelector('.card img').focus()")
    press(Keys.ENTER)
    wide, natural = browser.execute_async_script(
        "const done = arguments[0], i = document.querySelector('#zoom img');"
        "i.decode().then(() => requestAnimationFrame(() => done([i.offsetWidth, i.naturalWidth])))"
    )
    assert wide >= natural and wide % natural == 0
    browser.save_screenshot(str(artifacts / "report_zoom.png"))


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_hangs_over_the_window(browser, page, width, artifacts):
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    try:
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get(page.as_uri())
        assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        outside = """for (const g of document.querySelectorAll("[data-trial]")) {
            for (const [x, y] of [[0, 0], [innerWidth, innerHeight]]) {
                g.dispatchEvent(new MouseEvent("mousemove", {clientX: x, clientY: y}));
                const box = document.getElementById("tip").getBoundingClientRect();
                if (box.left < 0 || box.top < 0 || box.right > innerWidth || box.bottom > innerHeight)
                    return box.toJSON();
            }}"""
        assert browser.execute_script(outside) is None
        browser.save_screenshot(str(artifacts / f"report_{width}.png"))
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_page_is_dark_where_the_reader_is_and_prints_without_buttons(browser, page):
    background = "return getComputedStyle(document.body).backgroundColor"
    try:
        dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
        browser.get(page.as_uri())
        assert browser.execute_script(background) == "rgb(21, 24, 28)"
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", **dark})
        assert browser.execute_script(background) == "rgb(255, 255, 255)"
        kept = browser.find_elements("css selector", "button:not(th button), input, select")
        assert not [e for e in kept if e.is_displayed()]
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})


def test_the_numbers_can_be_taken_along(browser, page):
    browser.get(page.as_uri())
    data = embedded(page)
    rows = list(csv.DictReader(io.StringIO(browser.execute_script("return csv()"))))
    assert [int(row["trial"]) for row in rows] == [trial["number"] for trial in data["trials"]]
    for row, trial in zip(rows, data["trials"], strict=True):
        assert float(row["params.beta"]) == trial["params"]["beta"]
        assert row["params.likelihood"] == trial["params"]["likelihood"]  # it holds commas
    taken = json.loads(browser.execute_script("return as_json()"))
    assert taken["trials"][0]["curve"] == data["trials"][0]["curve"] and "images" not in taken["trials"][0]


def test_several_sweeps_stand_in_one_page(browser, client, tmp_path):
    path = tmp_path / "two.html"
    arguments = ["--sweep", "inception", "--beside", "two-objectives", "--tracking-uri", client.tracking_uri]
    assert report.main([*arguments, "--output", str(path)]) == 0
    browser.get(path.as_uri())
    rows = browser.find_elements("css selector", "#sweeps [data-sweep]")
    assert [row.get_attribute("data-sweep") for row in rows] == ["inception", "two-objectives"]
    rows[1].find_element("tag name", "button").click()
    assert browser.title == "two-objectives: sweep report"
    assert "and the highest ELBO" in browser.find_element("tag name", "h1").text


def test_a_sweep_stands_in_the_page_once_and_its_name_is_its_own(client, tmp_path):
    twins = [sweep.sweep_id for sweep in sweeps(client) if sweep.name == "twin"]
    arguments = ["--sweep", "inception", "--beside", find(client, "inception").sweep_id, *twins, twins[0]]
    path = tmp_path / "page.html"
    assert report.main([*arguments, "--tracking-uri", client.tracking_uri, "--output", str(path)]) == 0
    assert [data["name"] for data in all_embedded(path)] == [
        "inception",
        *(f"twin ({sweep_id})" for sweep_id in twins),
    ]


def test_the_story_is_of_the_record_alone(page):
    assert embedded(page)["story"] == (
        "12 trials of up to 9 epochs in 7 minutes, with pauses at ASHA's rungs: "
        "8 finished, 3 stopped, 1 diverged."
    )


def test_the_rungs_stand_in_the_curves(browser, page):
    browser.get(page.as_uri())
    lines = browser.find_elements("css selector", "#curves [data-rung]")
    assert [line.get_attribute("data-rung") for line in lines] == ["3"]


def test_draws_stand_above_the_training_images_nearest_to_them(client, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), dtype=np.uint8)
    copies = to_float(images[:8], torch.device("cpu"))
    store = SimpleNamespace(images=images, split=lambda _: np.arange(20))
    subject = Subject(SimpleNamespace(sample=lambda n, seed: copies), store, "one, trial 1")
    monkeypatch.setattr(report, "subject_of", lambda *_: subject)
    (shown,) = report.figures_of(client, load(client, "one"), ["nearest"])
    encoded = shown["image"].removeprefix("data:image/png;base64,")
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))))
    side = 4 * (16 + 2)  # enlarged, with its gap
    drawn, nearest = sheet[-4 * side + 8 :][:64, -64:], sheet[-3 * side + 8 :][:64, -64:]
    assert (drawn == nearest).all() and drawn.std() > 50
