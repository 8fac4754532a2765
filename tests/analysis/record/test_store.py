"""The connection to MLflow: what is not there is said, and never made."""

import pytest

from analysis.record.store import AnalysisError, connect


def test_no_database_is_made_where_there_is_none(tmp_path):
    with pytest.raises(AnalysisError, match="There is no MLflow database at"):
        connect(f"sqlite:///{tmp_path}/absent.db")
    assert not (tmp_path / "absent.db").exists()


def test_a_databases_options_are_no_part_of_its_name(tracking_uri, tmp_path):
    assert connect(f"{tracking_uri}?timeout=60").search_experiments()
    with pytest.raises(AnalysisError, match=r"no MLflow database at \S+absent.db;"):
        connect(f"sqlite:///{tmp_path}/absent.db?timeout=60")


def test_a_secret_stays_out_of_reports():
    with pytest.raises(AnalysisError, match="the parameter password, which reports would show") as error:
        connect("postgresql://host/db?password=hunter2")
    assert "hunter2" not in str(error.value)


def test_a_server_that_is_away_is_said_to_be(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(AnalysisError, match=r"MLflow at http://127.0.0.1:9 does not answer"):
        connect("http://127.0.0.1:9")
