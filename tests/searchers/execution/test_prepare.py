"""What must be there before the first trial: that it will take long is said once, early."""

import io

import pytest
from rich.console import Console

from searchers.execution.prepare import expecting


@pytest.mark.parametrize(
    ("extractor", "seconds", "said"),
    [
        ("inception", 1.0, ""),
        (
            "inception",
            64.0,
            "by inception takes about 2.8 h on this machine, once, before the first trial; --fea",
        ),
        (
            "efficientnet_lite0",
            64.0,
            "by efficientnet_lite0 takes about 2.8 h on this machine, once, before the",
        ),
    ],
)
def test_hours_of_measuring_are_told_after_the_first_images(extractor, seconds, said):
    console, now = Console(file=io.StringIO(), width=200), 0.0
    measured = expecting(160_000, extractor, console, clock=lambda: now)
    for _ in range(3):
        now += seconds
        measured(1024)
    printed = console.file.getvalue()
    assert said in printed and printed.count("\n") == bool(said)
    assert ("--features efficientnet_lite0, another score" in printed) == (said.endswith("--fea"))
