"""The latent space of a trained model: a page of sliders over its units, served to this machine alone."""

import io
import json
from functools import cached_property
from importlib.resources import files
from typing import Any

import numpy as np
import torch
from rich.console import Console

from analysis.charts.latent import REACH, Subject, controls, grid, prior_moments, require_continuous
from analysis.record.store import AnalysisError
from analysis.served import HTML, JSON, PNG, PageServer

UNITS = 16  # sliders: of the units that change an image most
CHANGES = 8  # draws whose change is averaged


class Explorer:
    """What the page asks for: where a latent begins, and the image of one.

    Raises AnalysisError where the model has no continuous latents.
    """

    def __init__(self, subject: Subject):
        require_continuous(subject, encoder=False)
        self.subject, self.network = subject, subject.model.network.eval()
        self.mean, self.deviation = prior_moments(subject.model)

    def answer(self, path: str, query: dict[str, str]) -> tuple[str, bytes] | None:
        """Return the page, where a latent begins, or an image. Raises ValueError for a wrong query."""
        if path == "":
            page = (files("analysis") / "explorer.html").read_text(encoding="utf-8")
            return HTML, page.replace("/*DATA*/", json.dumps(self.units).replace("<", "\\u003c")).encode()
        if path == "start":
            return JSON, json.dumps(self.start(query)).encode()
        if path == "image":
            return PNG, self.image(query.get("z", ""))
        return None

    @cached_property
    def units(self) -> dict[str, Any]:
        """The title, and of the units that change an image most: number, range, factor."""
        follows, images = self.follows()
        told = []
        for unit in np.argsort(-self.changes(), kind="stable")[:UNITS]:
            middle, reach = float(self.mean[unit]), REACH * float(self.deviation[unit])
            about = {"unit": int(unit), "low": middle - reach, "high": middle + reach}
            told.append(about | {"follows": follows[unit] if follows else ""})
        return {"title": self.subject.title, "units": told, "images": images}

    def follows(self) -> tuple[list[str], int]:
        """Return the factor that each unit follows, and how many held-out images there are to begin from."""
        try:
            codes, rows = self.subject.codes
        except AnalysisError:  # no encoder, or no images here
            return [], 0
        return [controls(code, self.subject.held_out(), rows) for code in codes.T], len(rows)

    @torch.no_grad()
    def changes(self) -> np.ndarray:
        """Return the mean change of a pixel, (M,), as a unit goes from one end of its slider to the other."""
        z, changes = self.draws(CHANGES, seed=0), []
        for unit, (middle, deviation) in enumerate(zip(self.mean, self.deviation, strict=True)):
            low, high = z.clone(), z.clone()
            low[:, unit], high[:, unit] = middle - REACH * deviation, middle + REACH * deviation
            changes.append(float((self.network.decode(high) - self.network.decode(low)).abs().mean()))
        return np.array(changes)

    def draws(self, n: int, seed: int) -> torch.Tensor:
        """Return draws of the prior, (n, M)."""
        return self.network.prior_sample(n, self.subject.model.generator(seed))

    def start(self, query: dict[str, str]) -> dict[str, Any]:
        """Return the latent of a draw (seed=3), or of a held-out image (image=5)."""
        if "image" not in query:
            return {"z": self.draws(1, int(query.get("seed", "0")))[0].tolist()}
        k = int(query["image"])
        codes, _ = self.subject.codes
        if not 0 <= k < len(codes):
            raise ValueError(f"there is no image {k}")
        return {"z": codes[k].tolist()}

    @torch.no_grad()
    def image(self, z: str) -> bytes:
        """Return the image of a latent, numbers with commas between them, as a PNG."""
        values = torch.tensor([float(value) for value in z.split(",")])
        if len(values) != len(self.mean):
            raise ValueError(f"a latent has {len(self.mean)} numbers")
        file = io.BytesIO()
        grid(self.network.decode(values[None]), 1).save(file, "PNG")
        return file.getvalue()


def explore(subject: Subject, console: Console) -> None:
    """Serve the page of a model until Ctrl-C."""
    with PageServer(Explorer(subject).answer) as server:
        console.print(f"Sliders over {subject.title}: {server.address} (Ctrl-C ends)", soft_wrap=True)
        server.serve_forever()
