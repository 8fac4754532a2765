"""An earlier sweep read again from MLflow: its settings as text, and its trials with one metric."""

from searchers.record.mlflow_store import StoreError, client_of, runs_of, sentence
from searchers.record.schema import NUMBER_TAG, STATUS_TAG, SWEEP_TAG, TRIAL_TAG
from searchers.record.trials import TrialRecord
from trainables.data.addresses import database_path


def recorded_sweep(tracking_uri: str, name: str, metric: str) -> tuple[dict[str, str], list[TrialRecord]]:
    """Return the parameters of the sweep that has this name in MLflow, and its trials.

    MLflow keeps parameters as text, the trials' configurations, too; of their metrics this one and its
    deviation are read. Raises ValueError, with a clause, where there is no such sweep, where there are
    several, and where MLflow does not answer.
    """
    path = database_path(tracking_uri)
    if path is not None and not path.exists():
        raise ValueError(f"there is no MLflow database at {tracking_uri}")
    from mlflow.exceptions import MlflowException

    try:
        client = client_of(tracking_uri)
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        named = runs_of(client, experiments, f"attributes.run_name = '{name}'") if experiments else []
        sweeps = [run for run in named if SWEEP_TAG in run.data.tags and TRIAL_TAG not in run.data.tags]
        if len(sweeps) != 1:
            raise ValueError(f"MLflow at {tracking_uri} has {len(sweeps) or 'none'} of that name")
        (sweep,) = sweeps
        trials = []
        mine = f"tags.`{SWEEP_TAG}` = '{sweep.data.tags[SWEEP_TAG]}'"
        for run in runs_of(client, [sweep.info.experiment_id], mine):
            tags = run.data.tags
            if TRIAL_TAG in tags:
                epochs: dict[int, dict[str, float]] = {}
                for key in (metric, f"{metric}_std"):
                    for point in client.get_metric_history(run.info.run_id, key):
                        epochs.setdefault(point.step, {})[key] = point.value
                number, status = int(tags[NUMBER_TAG]), tags.get(STATUS_TAG)
                trials.append(TrialRecord(tags[TRIAL_TAG], number, run.data.params, epochs, status))
    except (MlflowException, StoreError) as error:
        raise ValueError(f"MLflow at {tracking_uri} does not answer: {sentence(error)}") from error
    return sweep.data.params, sorted(trials, key=lambda trial: trial.number)
