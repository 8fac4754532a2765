"""The loop, its objective and its trainable: definitions, bookkeeping, exact restore."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from trainables.data.batches import to_float
from trainables.data.pictures import row, take_apart
from trainables.data.store import DataError, spread
from trainables.latent.discrete import DiscreteSearch, DiscreteSettings
from trainables.latent.optimization import (
    ExhaustedError,
    LatentOptimization,
    LoopSettings,
    Selection,
    novelty,
    top_k,
)
from trainables.latent.problem import checkpoint_bytes, load_images, pretrained
from trainables.latent.scorer import JUDGE, SmileScorer, load_scorer, quality_on, smile_degrees, train_scorer
from trainables.latent.settings import LatentConfig, parse_config, shared
from trainables.models.vqvae import VQVAE
from trainables.tune import latent_optimization
from trainables.tune.latent_optimization import LatentOptimizationTrainable

MODEL = {"image_size": 8, "width": 0.05, "grid": 2, "codes": 6, "embedding_dim": 3}


def brightness(images):
    return images.reshape(len(images), -1).mean(1) / 51  # 0 to 5


def images(n=120, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.integers(160, size=(n, 1, 1, 3)) + rng.integers(60, size=(n, 8, 8, 3))).astype(np.uint8)


def optimization(seed=0, retraining=True, free=2, **changes):
    search = DiscreteSearch(6, DiscreteSettings(free=free, trees=20, samples_a_leaf=3))
    settings = {"queries_a_round": 3, "best_points": 20, "random_points": 40, "batch_size": 16} | changes
    data = images()
    model = VQVAE(VQVAE.configure(MODEL), seed=0)
    for _ in range(30):
        model.training_step(to_float(data[:32]))
    loop = LoopSettings(retraining=retraining, **settings)
    return LatentOptimization(model, search, brightness, data, brightness(data), loop, seed)


def test_a_round_makes_queries_that_join_the_data_with_their_scores():
    run = optimization()
    result = run.run_round()
    assert run.queries.shape == (3, 8, 8, 3)
    np.testing.assert_array_equal(run.query_scores, brightness(run.queries))  # floats, never truncated
    np.testing.assert_array_equal(run.scores, np.concatenate([brightness(images()), run.query_scores]))
    assert result["score"] == pytest.approx(run.query_scores.mean())
    assert result["prediction_error"] >= abs(result["predicted"] - result["score"]) - 1e-9
    assert result["novelty"] == pytest.approx(novelty(run.queries, images()).mean())
    assert "top10" not in result
    assert {tuple(code) for code in run.latents} == set(map(tuple, run.latents))
    rows = np.array([0, 120, 5, 122])
    np.testing.assert_array_equal(
        run.gather(rows), np.stack([images()[0], run.queries[0], images()[5], run.queries[2]])
    )


def test_without_retraining_the_model_stays_and_with_it_moves():
    for retraining in (False, True):
        run = optimization(retraining=retraining)
        before = [p.clone() for p in run.model.parameters()]
        result = run.run_round()
        same = all(torch.equal(a, b) for a, b in zip(before, run.model.parameters(), strict=True))
        assert same == (not retraining)
        assert ("loss/squared_error" in result) == retraining


def test_retraining_draws_by_rank_weights():
    run = optimization()
    drawn = []
    gather = run.gather
    run.gather = lambda rows: drawn.append(rows) or gather(rows)
    run.retrain(20.0, np.random.default_rng(0))
    counts = np.bincount(np.concatenate(drawn), minlength=120)
    assert counts.sum() == pytest.approx(20 * 120, abs=16)
    order = np.argsort(-run.scores, kind="stable")
    expected = 1 / (0.12 + np.arange(120))
    expected *= counts.sum() / expected.sum()
    assert counts[order[0]] == pytest.approx(expected[0], rel=0.1)
    assert counts[order[1:10]].sum() == pytest.approx(expected[1:10].sum(), rel=0.15)


def test_the_surrogate_learns_from_the_best_and_from_others_at_random():
    run = optimization()
    rows = run.surrogate_points(np.random.default_rng(0))
    assert len(set(rows)) == 60
    assert set(np.argsort(-run.scores, kind="stable")[:20]) <= set(rows)
    other = run.surrogate_points(np.random.default_rng(1))
    assert set(rows) != set(other)


def test_a_restored_run_goes_on_exactly():
    run, other = optimization(), optimization()
    run.run_round()
    state = run.state()
    other.load_state(torch.load(_saved(state), weights_only=True))
    a, b = run.run_round(), other.run_round()
    timed = [name for name in a if "seconds" in name]
    assert {k: v for k, v in a.items() if k not in timed} == {k: v for k, v in b.items() if k not in timed}
    np.testing.assert_array_equal(run.queries, other.queries)
    np.testing.assert_array_equal(run.latents, other.latents)


def _saved(state):
    import io

    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return file


def test_when_nothing_new_is_left_it_says_what_to_do():
    run = optimization(retraining=False, free=1)
    everything = np.array(np.meshgrid(*[range(6)] * 4)).reshape(4, -1).T
    run.latents = list(everything)
    with pytest.raises(ExhaustedError, match="free more than 1 positions"):
        run.run_round()


def test_top_k_counts_an_image_once():
    pictures = images(4)[[0, 0, 1, 2, 3]]
    scores = np.array([5.0, 5.0, 4.0, 3.0, 2.0])
    assert [top_k(pictures, scores, k) for k in (1, 2, 3, 4, 5)] == [5.0, 4.0, 3.0, 2.0, None]


def test_novelty_is_the_distance_to_the_nearest_training_image():
    pool, queries = images(50), images(3, seed=1)
    difference = (queries[:, None].astype(float) - pool[None]) / 255
    expected = np.sqrt(np.square(difference).reshape(3, 50, -1).mean(2)).min(1)
    selection = Selection(np.concatenate([images(9, seed=7), pool]), np.arange(9, 59))
    np.testing.assert_allclose(novelty(queries, selection), expected, rtol=1e-6)
    assert novelty(pool[:1], pool)[0] == 0


def test_a_row_of_images_comes_back_as_it_was():
    np.testing.assert_array_equal(take_apart(row(images(5))), images(5))
    np.testing.assert_array_equal(take_apart(row(images(5)[..., :1])), images(5)[..., :1])


class Store:
    """The part of an image store that a scorer uses. The label is the third of the brightness."""

    def __init__(self, path=None, class_names=("0", "1", "5"), n=240):
        rng = np.random.default_rng(0)
        self.labels = rng.integers(3, size=n)
        noise = rng.integers(30, size=(n, 16, 16, 3))
        self.images = (self.labels[:, None, None, None] * 90 + noise).astype(np.uint8)
        self.manifest = {"class_names": list(class_names), "channels": 3}
        if path is not None:
            path.parent.mkdir(exist_ok=True)
        self.name, self.content_hash, self.path = "bright", "0123456789abcdef", path

    def split(self, name):
        return np.arange(len(self.labels))[slice(0, 180) if name == "train" else slice(180, None)]


def test_degrees_are_numbered_classes_or_smiling_and_not():
    assert set(smile_degrees(Store())) == {0.0, 1.0, 5.0}
    store = Store(class_names=("not_smiling", "smiling"))
    store.labels = np.array([0, 1, -1])
    np.testing.assert_array_equal(smile_degrees(store), [0, 5, np.nan])
    with pytest.raises(DataError, match=r"has the classes \['cat', 'dog'\]; smile degrees are"):
        smile_degrees(Store(class_names=("cat", "dog")))
    for names in (map(str, range(10)), ("0", "1", "²")):  # MNIST's digits are no smiles
        with pytest.raises(DataError, match="smile degrees are classes named 0 to 5"):
            smile_degrees(Store(class_names=names))


def test_other_images_than_the_sweep_s_are_refused(tmp_path):
    c = LatentConfig(dataset="minifigures", dataset_limit=40, image_size=16, cache_dir=str(tmp_path))
    own = load_images(c).content_hash
    assert load_images(replace(c, data_hash=own)).content_hash == own
    assert shared(c) != shared(replace(c, data_hash=own))
    with pytest.raises(DataError, match="are not those that the sweep has"):
        load_images(replace(c, data_hash="0" * 64))


def test_the_same_labels_under_other_names_are_other_degrees(tmp_path):
    """What a machine keeps of one set is not taken for the other's."""
    first, other = (Store(tmp_path / "store.arrow", names) for names in (("0", "1", "5"), ("5", "0", "1")))
    assert load_scorer(first, epochs=1) != load_scorer(other, epochs=1)
    c = LatentConfig(image_size=16, width=0.1, codes=8, embedding_dim=4, vqvae_epochs=0)
    for store in (first, other):
        pretrained(store, np.arange(100), c, torch.device("cpu"))
    assert len(list(tmp_path.glob("pretrained-*.pt"))) == 2


def test_a_scorer_learns_and_its_score_is_the_probability_weighted_degree():
    store = Store()
    scorer, quality = train_scorer(store, epochs=25)
    assert quality.accuracy > 0.95
    assert quality.rank_correlation > 0.9
    assert quality.images == 60
    x = store.images[:7]
    with torch.no_grad():
        probabilities = scorer(to_float(x)).softmax(1).numpy()
    expected = probabilities @ np.array([0.0, 1.0, 5.0])
    np.testing.assert_allclose(scorer.score(x), expected, rtol=1e-4)
    again, same = SmileScorer.from_bytes(scorer.to_bytes(quality))
    np.testing.assert_array_equal(again.score(x), scorer.score(x))
    assert same == quality
    elsewhere = Store(class_names=("1", "0", "5"))  # the file tells of its own images, not of these
    assert quality_on(again, elsewhere).accuracy < 0.6
    assert quality_on(again, store) == quality


def test_a_scorer_is_trained_once_and_a_wrong_file_is_refused(tmp_path):
    store = Store(tmp_path / "store.arrow")
    first = load_scorer(store, epochs=1)
    second = load_scorer(store, epochs=1, seed=JUDGE)
    assert second != first
    store.images = None  # nothing is left to train on
    assert load_scorer(store, epochs=1, seed=JUDGE) == second
    assert load_scorer(store, epochs=1) == first
    (tmp_path / "other").write_bytes(b"something else")
    with pytest.raises(DataError, match="can't be used as the scorer"):
        load_scorer(store, weights=tmp_path / "other")
    (tmp_path / "mine").write_bytes(first)
    assert load_scorer(store, weights=tmp_path / "mine") == first
    with pytest.raises(DataError, match="knows the degrees 0, 1, 5; bright has degree 3"):
        load_scorer(Store(class_names=("0", "1", "3")), weights=tmp_path / "mine")
    store.manifest["channels"] = 1
    with pytest.raises(DataError, match="takes images of 3 channels; bright has 1"):
        load_scorer(store, weights=tmp_path / "mine")


def test_a_wrong_setting_is_named_with_the_right_ones():
    with pytest.raises(
        ValueError, match="'fre' is no setting of latent optimization; its settings: method, free"
    ):
        parse_config({"fre": 8})
    with pytest.raises(ValueError, match="the method is 'gan'; it must be one of vqvae-retrained"):
        parse_config({"method": "gan"})
    paper = LatentConfig()
    assert (paper.rounds * paper.queries_a_round, paper.free, paper.trees, paper.codes) == (500, 8, 800, 256)


def test_a_killed_pretraining_goes_on_from_its_last_epoch(tmp_path, monkeypatch):
    c = LatentConfig(image_size=16, width=0.1, codes=8, embedding_dim=4, vqvae_epochs=3, vqvae_batch_size=32)
    device, rows = torch.device("cpu"), np.arange(100)
    whole = pretrained(Store(tmp_path / "a" / "store.arrow"), rows, c, device)
    store = Store(tmp_path / "b" / "store.arrow")
    steps, train = [], VQVAE.training_step

    def counted(model, x):
        steps.append(1)
        if len(steps) == 8:  # in the third epoch
            raise KeyboardInterrupt
        return train(model, x)

    monkeypatch.setattr(VQVAE, "training_step", counted)
    with pytest.raises(KeyboardInterrupt):
        pretrained(store, rows, c, device)
    again = pretrained(store, rows, c, device)
    assert len(steps) == 8 + 3
    for a, b in zip(whole.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    pretrained(store, rows, c, device)
    assert len(steps) == 8 + 3  # the machine keeps it


@pytest.mark.parametrize("method", ["vqvae-retrained", "vae-retrained"])
def test_a_trial_runs_checkpoints_and_becomes_another(tmp_path, method, monkeypatch):
    monkeypatch.setattr(latent_optimization, "HELD_OUT", 5)
    settings = {
        "dataset": "faces",
        "dataset_limit": 160,
        "cache_dir": str(tmp_path),
        "image_size": 16,
        "width": 0.1,
        "codes": 16,
        "embedding_dim": 4,
        "latent_dim": 4,
        "vqvae_epochs": 2,
        "vae_epochs": 2,
        "vqvae_batch_size": 16,
        "vae_batch_size": 16,
        "trees": 20,
        "scorer_epochs": 1,
        "training_scores": "scorer",
        "features": "random",
        "rounds": 2,
        "method": method,
        "free": 4,
    }
    trial = LatentOptimizationTrainable(settings)
    first = trial.step()
    assert take_apart(first["images"]["queries"]).shape == (5, 16, 16, 3)
    assert "fd_random" not in first
    images, search = trial.held_out, trial.optimization
    known = smile_degrees(trial.store)
    held_out = trial.store.split("validation")
    held_out = held_out[known[held_out] <= 2]
    assert len(held_out) > 5
    np.testing.assert_array_equal(images, trial.store.images[spread(held_out, 5)])
    kept = spearmanr(trial.scorer.score(images), trial.scorer.score(search.decode(search.encode(images))))
    assert first["reconstruction_rank_correlation"] == pytest.approx(kept.statistic)
    with torch.no_grad():
        x = torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1
        error = (search.model.reconstruct(x) - x).square().mean() / 4  # [−1, 1] to [0, 1]
    assert first["reconstruction_mse"] == pytest.approx(float(error), rel=0.01)  # decoded to 256 levels
    (tmp_path / "checkpoint").mkdir()
    trial.save_checkpoint(str(tmp_path / "checkpoint"))
    told, written = checkpoint_bytes(trial.settings, 3), (tmp_path / "checkpoint/state.pt").stat().st_size
    assert written < 1.02 * told < 1.1 * written
    last = trial.step()
    assert {"fd_random", "fd_random_degree_3", "top10"} <= set(last)
    judged = trial.judge.score(search.queries)
    assert last["judged_top10"] == pytest.approx(min(judged))  # of ten queries, all different
    assert last["overrated"] == pytest.approx(((search.query_scores - judged) >= 1).mean())
    assert trial.reset_config(settings | {"seed": 1})
    assert len(trial.optimization.queries) == 0
    trial.reset_config(settings)
    trial.load_checkpoint(str(tmp_path / "checkpoint"))
    again = trial.step()
    assert again["fd_random"] == last["fd_random"]
    assert again["images"]["queries"] == last["images"]["queries"]
