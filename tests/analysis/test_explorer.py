"""Sliders over a model's latents: what they reach, what is drawn, and the page in a real browser."""

import io
import json
import threading
from types import SimpleNamespace
from urllib.error import HTTPError
from urllib.request import urlopen

import numpy as np
import pytest
import torch
from PIL import Image

from analysis.charts.latent import REACH, Subject, grid
from analysis.explorer import Explorer
from analysis.record.store import AnalysisError
from analysis.record.trained_model import TrainedModel
from analysis.served import PageServer
from tests.analysis.test_trial import network  # noqa: F401  a fixture
from tests.fixtures.waits import wait_until
from trainables.models.fitted_prior import fit
from trainables.models.latent_flow import LatentFlow
from trainables.models.vqvae import VQVAE


@pytest.fixture(scope="module")
def explorer(network):  # noqa: F811
    """Of a model, and of twenty held-out images whose brightness is known."""
    level = np.linspace(0, 255, 20).astype(np.uint8)
    images = np.broadcast_to(level[:, None, None, None], (20, 16, 16, 3))
    store = SimpleNamespace(
        images=images, factors={"light": level.astype(float)}, split=lambda _: np.arange(20)
    )
    return Explorer(Subject(TrainedModel(network, {}), store, "a sweep, trial 1"))


def asked(explorer, path, **query):
    kind, content = explorer.answer(path, {name: str(value) for name, value in query.items()})
    return json.loads(content) if kind == "application/json" else np.asarray(Image.open(io.BytesIO(content)))


def drawn_of(explorer, z):
    return asked(explorer, "image", z=",".join(map(repr, z)))


def test_sliders_reach_as_far_as_the_prior(explorer, network):  # noqa: F811
    told = explorer.units
    prior = network.present_prior()
    deviation = prior.factor().square().sum(1).sqrt()
    assert sorted(unit["unit"] for unit in told["units"]) == [0, 1, 2] and told["images"] == 20
    assert all(unit["follows"].startswith("light, ρ = ") for unit in told["units"])
    for unit in told["units"]:
        k = unit["unit"]
        ends = prior.mean[k] + REACH * deviation[k] * torch.tensor([-1, 1])
        assert [unit["low"], unit["high"]] == pytest.approx(ends.tolist(), abs=0.2 * float(deviation[k]))


def test_the_unit_that_changes_most_comes_first(explorer, network):  # noqa: F811
    changes = explorer.changes()
    order = [unit["unit"] for unit in explorer.units["units"]]
    assert order == list(np.argsort(-changes)) and (changes > 0).all()
    z = explorer.draws(8, 0)
    low, high = z.clone(), z.clone()
    reach = REACH * explorer.deviation[1]
    low[:, 1], high[:, 1] = explorer.mean[1] - reach, explorer.mean[1] + reach
    with torch.no_grad():
        assert changes[1] == pytest.approx(float((network.decode(high) - network.decode(low)).abs().mean()))


def test_a_start_is_a_draw_of_the_model_or_a_held_out_image(explorer):
    subject = explorer.subject
    same = drawn_of(explorer, asked(explorer, "start", seed=5)["z"])
    assert (same == np.asarray(grid(subject.model.sample(1, 5), 1))).all()
    rebuilt = drawn_of(explorer, asked(explorer, "start", image=2)["z"])
    expected = subject.model.network.decode(subject.model.encode(subject.images(len(subject.rows()))[2:3]))
    assert (rebuilt == np.asarray(grid(expected.detach(), 1))).all()
    for path, query in (
        ("start", {"image": 20}),
        ("image", {"z": "1,2"}),
        ("image", {"z": "a,b,c"}),
        ("image", {}),
    ):
        with pytest.raises(ValueError, match=r".+"):
            asked(explorer, path, **query)
    assert explorer.answer("other", {}) is None


def test_sliders_and_starts_of_a_latent_flow_are_of_the_codes_that_it_draws():
    """Not of the noise that its flow begins from."""
    settings = {"image_size": 16, "width": 0.1, "latent_dim": 3, "hidden": 32}
    model = LatentFlow(LatentFlow.configure(settings))  # its flow has learned nothing and draws a Gaussian
    means = torch.randn(50, 3, generator=torch.Generator().manual_seed(2)) * torch.tensor([1.0, 2.0, 3.0]) + 4
    model.moments.load_state_dict(fit(means, torch.full((50, 3), -9.0)).state_dict())
    explorer = Explorer(Subject(TrainedModel(model, {}), None, "a sweep, trial 1", "no images"))
    torch.testing.assert_close(explorer.mean, means.mean(0), atol=0.2, rtol=0)
    torch.testing.assert_close(explorer.deviation, means.std(0, correction=0), atol=0, rtol=0.05)
    drawn = drawn_of(explorer, asked(explorer, "start", seed=5)["z"])
    assert (drawn == np.asarray(grid(explorer.subject.model.sample(1, 5), 1))).all()


def test_a_model_of_codes_has_none():
    model = VQVAE(VQVAE.configure({"image_size": 16, "width": 0.1}))
    with pytest.raises(AnalysisError, match="VQVAE has no continuous latents"):
        Explorer(Subject(TrainedModel(model, {}), None, "codes", "no images"))


def test_a_slider_redraws_the_image(explorer, browser, artifacts):
    with PageServer(explorer.answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser.get(server.address)
        browser.get_log("browser")  # of the page before
        shown = "return document.getElementById('image').src"
        wait_until(
            lambda: browser.execute_script(f"{shown} && document.getElementById('image').naturalWidth")
        )
        before = browser.execute_script(shown)
        browser.execute_script(
            "const s = document.querySelector('input'); s.value = s.max; s.dispatchEvent(new Event('input'))"
        )
        wait_until(lambda: browser.execute_script(shown) not in ("", before))
        assert browser.execute_script("return Math.abs(z[units[0].unit] - units[0].high) < 1e-4")
        browser.find_element("id", "held").click()
        wait_until(lambda: "held-out image 0" in browser.find_element("id", "where").text)
        browser.save_screenshot(str(artifacts / "explorer.png"))
        assert not browser.get_log("browser")
        for path, code in (("image?z=1", 400), ("other", 404), ("../x/", 404)):
            with pytest.raises(HTTPError) as raised:
                urlopen(server.address + path)
            assert raised.value.code == code
        server.shutdown()
