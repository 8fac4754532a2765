"""Damaged statistics are refused in one sentence, never by a traceback."""

import numpy as np

from tests.fixtures.fuzz import Subject, check
from trainables.metrics.errors import MetricError
from trainables.metrics.reference import ReferenceStatistics


def test_damaged_statistics_are_refused_in_one_sentence(tmp_path):
    whole = tmp_path / "whole.npz"
    ReferenceStatistics.of_features(np.random.default_rng(0).normal(size=(30, 4))).save(whole)
    subject = Subject(
        "statistics", {"r.npz": whole.read_bytes()}, ReferenceStatistics.load, (MetricError,), 60
    )
    refused, read = check(subject, tmp_path)
    assert refused > 30 and read > 0
