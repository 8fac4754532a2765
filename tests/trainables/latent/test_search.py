"""What proposes queries: rank weights, the discrete search, the continuous one, by their definitions."""

import math

import mpmath
import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.linear_model import BayesianRidge
from sklearn.mixture import GaussianMixture

from trainables.latent.continuous import ContinuousSearch, ContinuousSettings, MixtureDensity, log_h
from trainables.latent.discrete import DiscreteSearch, DiscreteSettings
from trainables.latent.ensemble import Restriction
from trainables.latent.weighting import rank_weights

POSITIONS, CATEGORIES = 6, 8


def codes_and_scores(n=300, seed=0):
    rng = np.random.default_rng(seed)
    codes = rng.integers(CATEGORIES, size=(n, POSITIONS))
    effects = rng.normal(size=(POSITIONS, CATEGORIES)) * np.array([5, 0.1, 4, 0.1, 3, 0.1])[:, None]
    return codes, effects[np.arange(POSITIONS), codes].sum(1)


def discrete(free=3, **changes):
    settings = DiscreteSettings(free=free, trees=60, samples_a_leaf=5, **changes)
    search = DiscreteSearch(CATEGORIES, settings)
    codes, scores = codes_and_scores()
    search.begin(codes, scores, np.empty((0, POSITIONS), dtype=int), np.random.default_rng(1))
    return search


def test_rank_weights_are_the_papers():
    scores = np.array([0.3, 2.0, -1.0, 1.5])
    raw = np.array([1 / (0.4 + 2), 1 / 0.4, 1 / (0.4 + 3), 1 / (0.4 + 1)])
    np.testing.assert_allclose(rank_weights(scores, k=0.1), raw / raw.sum())


def test_equal_scores_weigh_alike():
    """Of labels many are equal: the first files are no better than the last."""
    weights = rank_weights([2.0, 0.0, 2.0, 1.0, 0.0], k=0.1)
    raw = 1 / (0.5 + np.array([0.5, 3.5, 0.5, 2.0, 3.5]))
    np.testing.assert_allclose(weights, raw / raw.sum())
    np.testing.assert_allclose(rank_weights([0.0] * 4), 0.25)


def test_the_best_hundredth_carries_about_35_percent_of_the_mass():
    weights = np.sort(rank_weights(np.random.default_rng(0).normal(size=100_000)))[::-1]
    assert weights[:1000].sum() == pytest.approx(math.log(11) / math.log(1001), abs=0.005)  # 0.347
    assert weights[:10_000].sum() == pytest.approx(math.log(101) / math.log(1001), abs=0.005)  # 0.668


@pytest.mark.parametrize(("scores", "k"), [([], 1e-3), ([1.0, np.nan], 1e-3), ([1.0], 0.0)])
def test_weights_of_nothing_are_refused(scores, k):
    with pytest.raises(ValueError, match="must be"):
        rank_weights(scores, k)


def test_a_proposal_is_the_surrogates_maximum_over_the_positions_that_matter():
    search = discrete()
    base = search.codes[0]
    proposal = search.propose(base)
    assert sorted(search.free_positions()) == [0, 2, 4]
    every = np.repeat(base[None], CATEGORIES**3, 0)
    every[:, [0, 2, 4]] = np.array(np.meshgrid(*[range(CATEGORIES)] * 3)).reshape(3, -1).T
    assert proposal.predicted == search.predict(every).max()
    assert proposal.predicted == search.predict(proposal.latent[None])[0]
    assert 0 <= proposal.gap < 1e-6
    fixed = [1, 3, 5]
    assert (proposal.latent[fixed] == base[fixed]).all()


def test_no_code_is_proposed_twice_and_the_end_is_told():
    search = discrete(free=1, refit_each_query=False)
    base, seen = search.codes[0], set()
    for _ in range(CATEGORIES):
        code = search.propose(base).latent
        assert tuple(code) not in seen
        seen.add(tuple(code))
        search.add(code, 0.0)
    assert search.propose(base) is None


def test_the_surrogate_is_refitted_after_a_query_unless_told_not_to():
    for refit in (True, False):
        search = discrete(refit_each_query=refit)
        proposal = search.propose(search.codes[0])
        before = search.booster
        search.add(proposal.latent, -50.0)
        search.propose(search.codes[1])
        assert (search.booster is before) == (not refit)
    assert discrete(bootstrap=True).propose(search.codes[0]).predicted != proposal.predicted


def test_a_trust_radius_bounds_the_changes():
    search = discrete(trust_radius=1)
    for base in search.codes[:5]:
        assert (search.propose(base).latent != base).sum() <= 1


def test_out_of_time_the_best_known_is_proposed_and_the_gap_tells_what_is_not_proven():
    search = discrete(trust_radius=1, time_limit=0.0)
    base = search.codes[0]
    proposal = search.propose(base)
    assert (proposal.latent != base).sum() <= 1
    assert proposal.predicted >= search.predict(base[None])[0]
    assert 1e-6 < proposal.gap < np.inf


def test_of_codes_that_the_surrogate_cannot_tell_apart_the_base_or_the_most_frequent_is_taken():
    search = discrete(free=1)
    proposal = search.propose(search.codes[0])
    position = search.free_positions()[0]
    search.codes[:, position] = 3
    classes = [[np.array([1, 3, 5]), np.array([0, 2, 4, 6, 7])]]
    restriction = Restriction((position,), 0.0, [], classes, np.empty((0, 1), dtype=int))
    base = search.codes[0].copy()
    base[position] = 5
    assert search._members(restriction, base, [0])[position] == 5
    base[position] = 0
    assert search._members(restriction, base, [0])[position] == 3
    assert proposal.nodes >= 1


@pytest.mark.parametrize("u", [-300.0, -25.0, -20.5, -19.5, -5.0, 0.0, 1.0, 29.0, 31.0, 80.0])
def test_log_of_expected_improvement_does_not_underflow(u):
    mpmath.mp.dps = 60
    exact = mpmath.log(mpmath.npdf(u) + u * mpmath.ncdf(u))
    assert float(log_h(torch.tensor(u, dtype=torch.float64))) == pytest.approx(float(exact), rel=2e-6)


def test_the_density_is_the_mixtures():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(200, 3)) @ rng.normal(size=(3, 3)) + rng.integers(2, size=(200, 1)) * 4
    mixture = GaussianMixture(3, random_state=0).fit(z)
    density = MixtureDensity(mixture)
    np.testing.assert_allclose(density(z), mixture.score_samples(z))
    step = 1e-5 * np.eye(3)
    slopes = [(density(z + e) - density(z - e)) / 2e-5 for e in step]
    np.testing.assert_allclose(density.gradient(z), np.transpose(slopes), rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def continuous():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(300, 4))
    search = ContinuousSearch(ContinuousSettings(components=3, epochs=60))
    search.begin(z, 2 + z[:, 0] - 0.2 * z[:, 1] ** 2, np.empty((0, 4)), rng)
    return search, search.propose(z[0])


def test_the_continuous_proposal_improves_and_stays_near_the_data(continuous):
    search, proposal = continuous
    assert search.density(proposal.latent[None])[0] >= search.threshold - 1e-6
    assert math.isnan(proposal.gap)
    inside = search.latents[search.density(search.latents) >= search.threshold]
    values = search._log_improvement(torch.from_numpy(np.vstack([proposal.latent, inside])))
    assert values[0] > values[1:].max()


def test_its_mean_and_deviation_are_bayesian_regressions(continuous):
    search, _ = continuous
    with torch.no_grad():
        basis = search._basis(torch.from_numpy(search.latents)).numpy()
        mean, std = search.predict(torch.from_numpy(search.latents))
    targets = (search.scores - search.score_mean) / search.score_std
    expected = BayesianRidge(fit_intercept=False).fit(basis, targets).predict(basis, return_std=True)
    np.testing.assert_allclose(mean, expected[0] * search.score_std + search.score_mean, rtol=1e-8)
    np.testing.assert_allclose(std, expected[1] * search.score_std, rtol=1e-8)
    u = (mean.numpy() - search.best) / std.numpy()
    improvement = std.numpy() * (norm.pdf(u) + u * norm.cdf(u))
    moderate = u > -5
    ours = search._log_improvement(torch.from_numpy(search.latents)).detach().exp().numpy()
    np.testing.assert_allclose(ours[moderate], improvement[moderate], rtol=1e-6)


def test_a_query_joins_the_data(continuous):
    search, proposal = continuous
    n = len(search.scores)
    search.add(proposal.latent, 99.0)
    assert (len(search.latents), len(search.scores)) == (n + 1, n + 1)
    again = search.propose(proposal.latent)
    assert search.best == 99.0
    difference = (again.latent - proposal.latent) / search.scale
    assert np.sqrt(np.square(difference).mean()) >= search.settings.spacing
