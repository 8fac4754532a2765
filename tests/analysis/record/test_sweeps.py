"""Sweeps are found by their names and ids, and what their parent runs say is read."""

from dataclasses import replace

import pytest

from analysis.record.store import AnalysisError
from analysis.record.sweeps import find
from analysis.record.tables import load
from tests.fixtures.recorded import SPACES


def test_the_space_is_read_and_an_unreadable_one_keeps_its_names(client):
    assert find(client, "three").space == SPACES[3]
    sweep = find(client, "one")
    unreadable = replace(sweep, params={"space/beta": "<Float object at 0x7f>"})
    assert unreadable.space == {"beta": {}}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nonesuch", "no sweep 'nonesuch'; the latest are: "),
        ("twin", r"2 sweeps are called 'twin'; give the id of one: id-twin-\d \(20"),
    ],
)
def test_a_name_that_is_not_one_sweeps_is_refused(client, name, words):
    with pytest.raises(AnalysisError, match=words):
        load(client, name)


def test_one_of_two_namesakes_is_found_by_its_id(client):
    assert load(client, "id-twin-3").sweep.sweep_id == "id-twin-3"
