"""The trainable under Tune's own schedulers and searchers: real Ray, small faces."""

import math
import os
from pathlib import Path

import pytest
import ray
from ray import tune
from ray.tune import schedulers
from ray.tune.search.optuna import OptunaSearch

from searchers.execution.driver import tune_settings
from tests.fixtures.embedded import embedded_ray
from tests.fixtures.settings import SMALL_FACES
from trainables import BetaVAEGAN

EPOCHS = 4
METRIC = "fd_random"


@pytest.fixture(scope="module", autouse=True)
def running_ray():
    """Two CPUs, and two GPUs by pretence: Ray hands out what it is told there is."""
    with embedded_ray(num_cpus=2, num_gpus=2):
        yield


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    return {**SMALL_FACES, "cache_dir": str(tmp_path_factory.mktemp("cache")), "beta": tune.uniform(1, 150)}


def fit(space, folder, trainable=BetaVAEGAN, samples=4, reuse=False, stop=EPOCHS, **settings):
    tuner = tune.Tuner(
        trainable,
        param_space=space,
        tune_config=tune.TuneConfig(
            metric=METRIC, mode="min", num_samples=samples, reuse_actors=reuse, **settings
        ),
        run_config=tune.RunConfig(
            name="sweep",
            storage_path=str(folder),
            stop={"training_iteration": stop},
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1),
        ),
    )
    results = tuner.fit()
    assert not results.errors
    assert len(results) == samples
    assert all(math.isfinite(result.metrics[METRIC]) for result in results)
    return results


def epochs(results):
    return sorted(result.metrics["training_iteration"] for result in results)


SCHEDULERS = {
    "asha": lambda: schedulers.ASHAScheduler(max_t=EPOCHS, grace_period=1, reduction_factor=2),
    "hyperband": lambda: schedulers.HyperBandScheduler(max_t=2, reduction_factor=2),
    "median": lambda: schedulers.MedianStoppingRule(grace_period=1, min_samples_required=2),
}


def test_a_trial_gets_the_resources_it_asks_for(space, tmp_path):
    """The first test: Ray may take long to give back a CPU of an actor that it has killed."""

    class Counting(BetaVAEGAN):
        def step(self):
            import torch

            accelerators = ray.get_runtime_context().get_accelerator_ids()["GPU"]
            return super().step() | {"gpus": len(accelerators), "threads": torch.get_num_threads()}

    trainable = tune.with_resources(Counting, {"cpu": 2, "gpu": 0.5})
    (result,) = fit(space, tmp_path, trainable=trainable, samples=1)
    assert (result.metrics["gpus"], result.metrics["threads"]) == (1, 2)


@pytest.mark.parametrize(
    "scheduler", ["asha", *(pytest.param(name, marks=pytest.mark.slow) for name in ("hyperband", "median"))]
)
def test_schedulers_stop_and_pause_trials(scheduler, space, tmp_path):
    """HyperBand pauses trials at its rungs: they are saved, their actor ends, and they go on from there.

    Of two epochs and four trials it lets two train through; of the others it pauses both after one epoch and
    ends the worse one. The sweep ends trials at two epochs, too: Ray's HyperBand alone may leave one paused
    for good, whose checkpoint is still being written when the last of its bracket ends.
    """
    stop = 2 if scheduler == "hyperband" else EPOCHS
    reuse = scheduler != "hyperband"
    results = fit(space, tmp_path, scheduler=SCHEDULERS[scheduler](), reuse=reuse, stop=stop)
    assert 1 <= epochs(results)[0] <= epochs(results)[-1] <= EPOCHS
    for result in results:
        assert result.metrics["epoch"] == result.metrics["training_iteration"]  # none was trained twice
    if scheduler == "hyperband":
        assert epochs(results) == [1, 2, 2, 2]


def test_population_based_training_takes_over_weights_and_changes_settings(space, tmp_path):
    scheduler = schedulers.PopulationBasedTraining(
        time_attr="training_iteration",
        perturbation_interval=2,
        synch=True,  # or a trial that starts late finds none to take over from
        hyperparam_mutations={"beta": tune.uniform(1, 150)},
        quantile_fraction=0.5,
        resample_probability=0.5,
    )
    results = fit(space, tmp_path, scheduler=scheduler, samples=2, reuse=True)
    log = list((tmp_path / "sweep").glob("pbt_policy_*.txt"))
    assert log, "nothing was exploited"
    assert epochs(results)[-1] == EPOCHS
    for result in results:  # a model that was taken over goes on counting from where it was taken
        assert result.metrics["epoch"] == result.metrics["training_iteration"]


@pytest.mark.slow  # the peers' searchers are tested in searchers/execution
def test_optunas_searcher_proposes_for_it(space, tmp_path):
    searcher = OptunaSearch({"beta": tune.loguniform(1, 150)}, metric=METRIC, mode="min", seed=1)
    settings = {key: value for key, value in space.items() if key != "beta"}
    tuned = tune.TuneConfig(search_alg=searcher, num_samples=3, reuse_actors=True, max_concurrent_trials=2)
    results = tune.Tuner(
        BetaVAEGAN,
        param_space=settings,
        tune_config=tuned,
        run_config=tune.RunConfig(storage_path=str(tmp_path), stop={"training_iteration": 1}, verbose=0),
    ).fit()
    assert not results.errors
    assert len({result.config["beta"] for result in results}) == 3


def test_a_sweep_goes_on_from_its_checkpoints_after_its_actors_died(space, tmp_path):
    class Mortal(BetaVAEGAN):
        """Dies once in its third epoch."""

        def step(self):
            mark = tmp_path / f"died-{self.trial_id}"
            if self.epoch == 2 and not mark.exists():
                mark.touch()
                os._exit(1)
            return super().step()

    tuner = tune.Tuner(
        Mortal,
        param_space={**space, "beta": 3.0},
        tune_config=tune.TuneConfig(metric=METRIC, mode="min", num_samples=1),
        run_config=tune.RunConfig(
            storage_path=str(tmp_path),
            stop={"training_iteration": EPOCHS},
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=2),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1),
        ),
    )
    (result,) = tuner.fit()
    (straight,) = fit({**space, "beta": 3.0}, tmp_path / "straight", samples=1)
    assert list(tmp_path.glob("died-*"))
    assert result.metrics["epoch"] == EPOCHS
    assert result.metrics[METRIC] == straight.metrics[METRIC]


class LosesAProcess(BetaVAEGAN):
    """Its second process ends before the second epoch, the first time."""

    def step(self):
        lost = Path(self.training.cache_dir) / "lost"
        if self.epoch == 1 and not lost.exists():
            lost.touch()
            ray.kill(self.peers.replicas[0])
        return super().step()


@pytest.mark.slow  # what the processes compute is tested in test_parallel.py
def test_a_trial_of_two_gpus_trains_on_both_and_outlives_a_process(space, tmp_path):
    """GPUs are by pretence, so that both processes compute on a CPU."""
    settings = {**space, "processes": 2, "cache_dir": str(tmp_path)}
    tuned = tune.run(
        LosesAProcess,
        **tune_settings(2, 2, processes=2),
        config=settings,
        metric=METRIC,
        mode="min",
        num_samples=1,
        stop={"training_iteration": 2},
        storage_path=str(tmp_path),
    )
    assert (tmp_path / "lost").exists()
    assert [trial.status for trial in tuned.trials] == ["TERMINATED"]
    assert sum(trial.num_failures for trial in tuned.trials) == 1
    assert all(math.isfinite(trial.last_result[METRIC]) for trial in tuned.trials)
