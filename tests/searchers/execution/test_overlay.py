"""`--space` and `--set` laid over a study."""

import random
import sys
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path

import pytest
import torch
from ray import tune
from ray.tune.search.sample import Float
from torch import nn

from searchers.bayesopt.space import SpaceError
from searchers.bayesopt.tune_space import read_space
from searchers.execution import check
from searchers.execution.check import check_settings, ends_of
from searchers.execution.fixed_points import check_points
from searchers.execution.overlay import from_anywhere, over_given, overlay
from searchers.execution.plan import extent
from searchers.record.schema import reference_param
from searchers.study.config import SweepConfig, UsageError
from searchers.study.study import Study
from trainables import BetaVAEGAN
from trainables.evaluation.inputs import load_store
from trainables.models.base import GenerativeModel
from trainables.tune.builtin import EDM, GAN, ConvVAE, Flow
from trainables.tune.trainable import GenerativeTrainable

STUDY = Study(
    experiment="e",
    trainable=BetaVAEGAN,
    space={"beta": tune.uniform(1, 150)},
    settings={"recipe": "modern", "latent_dim": 64, "image_size": 16, "width": 0.1, "epochs": 1},
    metric="fd_random",
    provenance={reference_param("grey", "fd_random"): 1.0},
    points_to_evaluate=({"beta": 1.0}, {"beta": 50.0}, {"beta": 150.0}),
)


def laid(space=(), settings=(), study=STUDY):
    return overlay(study, SweepConfig(space=tuple(space), set=tuple(settings)))


def test_without_either_the_study_is_itself():
    assert laid() is STUDY


def test_the_studys_own_dimensions_stay_beside_the_given_ones():
    study = laid(["learning_rate=loguniform(1e-4,3e-3)", "latent_dim=choice(32,64)"], ["gamma=2"])
    assert list(study.space) == ["beta", "learning_rate", "latent_dim"]
    assert "latent_dim" not in study.settings and study.settings["gamma"] == 2
    assert study.points_to_evaluate == STUDY.points_to_evaluate
    rate = read_space(study.space).dimensions[1]
    assert (rate.low, rate.high, rate.log) == (1e-4, 3e-3, True)
    check_settings(study, None)


def test_a_dimension_given_anew_replaces_it_and_first_points_outside_are_left_out():
    study = laid(["beta=loguniform(2,60)"])
    assert isinstance(study.space["beta"], Float) and study.space["beta"].upper == 60
    assert study.points_to_evaluate == ({"beta": 50.0},)


def test_first_points_between_the_steps_are_left_out():
    assert laid(["beta=quniform(0,200,50)"]).points_to_evaluate == ({"beta": 50.0}, {"beta": 150.0})


def test_a_dimension_that_is_set_is_searched_no_longer():
    study = laid(["latent_dim=choice(8,16)"], ["beta=3"])
    assert list(study.space) == ["latent_dim"] and study.settings["beta"] == 3
    assert study.points_to_evaluate == ()


def test_a_resumed_sweep_searches_what_its_trials_were_given():
    """A later version of the program may search more."""
    wider = replace(
        STUDY,
        space={**STUDY.space, "penalty": tune.loguniform(0.02, 5)},
        points_to_evaluate=({"beta": 1.0, "penalty": 2.0}, {"beta": 1.0, "penalty": 0.05}, {"beta": 5.0}),
    )
    begun = over_given(wider, [{"beta": 3.0, "latent_dim": 64, "seed": 0}, {"beta": 4.0}])
    assert begun.space == STUDY.space
    assert begun.points_to_evaluate == ({"beta": 1.0}, {"beta": 5.0})
    for configs in ([], [{"beta": 3.0}, {"penalty": 1.0}], [{"seed": 3}]):
        begun = over_given(wider, configs)
        assert (begun.space, begun.points_to_evaluate) == (wider.space, wider.points_to_evaluate)
    assert over_given(wider, [{"beta": 3.0}], asked=["penalty"]).space == wider.space
    nested = replace(STUDY, space={"beta": tune.uniform(1, 2), "inner": {"rate": tune.uniform(0, 1)}})
    assert over_given(nested, [{"inner/rate": 0.5}]).space == {"inner": nested.space["inner"]}


@pytest.mark.parametrize(
    ("space", "settings", "error", "sentence"),
    [
        ([], ["beta=3"], UsageError, "nothing is left to be searched"),
        ([], ["epochs=3"], UsageError, "it has a flag of its own, --epochs"),
        ([], ["channels=1"], UsageError, "the sweep's flags say"),
        (["epochs=randint(1,9)"], [], UsageError, "all trials of a sweep share it"),
        (["epoch_steps=choice(100,400)"], [], UsageError, "all trials of a sweep share it"),
        (["scores=choice('a:b','a:c')"], [], UsageError, "all trials of a sweep share it"),
        (["disentanglement=choice(true,false)"], [], UsageError, "all trials of a sweep share it"),
        (["gamma=uniform(1,2)"], ["gamma=1"], UsageError, "both searched .* and held"),
        (["gamma=uniform(2,1)"], [], (UsageError, SpaceError), "gamma"),
        (["gamma=uniform(1)"], [], UsageError, r"--space gamma=uniform\(1\): .*missing"),
        (["gamma=loguniform(-1,2)"], [], UsageError, "lower bound greater than 0"),
        (["gamma=choice(1)"], [], UsageError, "two values at least; --set holds one"),
        (["gamma=choice(1,1)"], [], UsageError, "two values at least; --set holds one"),
        (["gamma=uniform(nan,1)"], [], UsageError, r"uniform takes numbers, as in uniform\(1,8\)"),
        (["gamma=uniform(uniform(0,1),1)"], [], UsageError, "uniform takes numbers"),
        (["gamma=choice(uniform(0,1),2)"], [], SpaceError, "conditional dimensions cannot be searched"),
        (["gamma=sample_from(lambda spec: spec.config.beta)"], [], SpaceError, "conditional dimensions"),
        (["gamma=grid_search([1,2])"], [], SpaceError, "grid_search belongs to no searcher; use tune.choice"),
        (["gamma=randn(0,1)"], [], SpaceError, "a normal distribution has no bounds"),
    ],
)
def test_what_cannot_be_searched_or_set_gets_a_sentence(space, settings, error, sentence):
    with pytest.raises(error, match=sentence) as raised:
        laid(space, settings)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("space", "settings", "sentence"),
    [
        (["gama=uniform(1,2)"], [], r"'gama' is no setting of ModernVAEGAN \(did you mean gamma\?\)"),
        ([], ["gama=2"], r"'gama' is no setting of ModernVAEGAN \(did you mean gamma\?\)"),
        (["latent_dim=uniform(8,9)"], [], "latent_dim is 8.*; it must be a whole number"),
        ([], ["latent_dim=eight"], "latent_dim is 'eight'; it must be a whole number"),
        ([], ["fitted_prior=1"], "fitted_prior is 1; it must be True or False"),
        (["latent_dim=choice(8,-3)"], [], "latent_dim = -3 can't be built"),
        (["latent_dim=choice(8,0)"], [], "latent_dim = 0 can't be built"),
        (["precision=choice(float32,float31)"], [], "precision is 'float31'; choose float32"),
        (["ema_width=uniform(0.4,0.9)"], [], r"ema_width is 0\.\d+; it must lie between"),
        ([], ["recipe=larson"], "has no recipe 'larson'; its recipes: report, larsen"),
        ([], ["recipe=report", "optimizer=sgd"], "optimizer is 'sgd'; choose adam, rmsprop"),
        ([], ["recipe=report", "feature_layer=conv"], "feature_layer is 'conv'; choose "),
        ([], ["discriminator_learning_rate=true"], "discriminator_learning_rate is True; it must be a numb"),
        ([], ["disentanglement=mig"], "disentanglement is 'mig'; choose true, or a list of some of mig, dci"),
        ([], ["disentanglement=[mag]"], r"disentanglement is \['mag'\]; choose true, or a list"),
    ],
)
@pytest.mark.filterwarnings("ignore:Initializing zero-element")
def test_what_a_trial_would_refuse_is_refused_before_it_begins(space, settings, sentence):
    with pytest.raises(UsageError, match=sentence):
        check_settings(laid(space, settings), None)


@pytest.mark.parametrize(
    ("metric", "mode", "sentence"),
    [
        ("fid", "min", r"no trial reports fid(?! \()"),
        ("fd_efficientnet", "min", "no trial reports fd_efficientnet"),
        ("fd_randon", "min", r"no trial reports fd_randon \(did you mean fd_random\?\); it reports "),
        ("ex_post/fid", "min", "no trial reports ex_post/fid"),
        ("kl_per_unit", "min", "no trial reports kl_per_unit"),
        ("disentanglement/mig", "max", "no trial reports disentanglement/mig"),
        ("intra_fd_random", "min", "no trial reports intra_fd_random"),
        ("fd_random", "max", "fd_random is the better the lower it is: its mode is min, not max"),
        ("elbo", "min", "elbo is the better the higher it is: its mode is max, not min"),
        ("elbo", "max", None),
        ("kid_random", "min", None),
        ("ex_post_mixture/fd_random", "min", None),
        ("loss/kl", "max", None),
        ("kl", "max", None),
    ],
)
def test_a_search_is_by_what_trials_report_and_for_its_best(metric, mode, sentence):
    for study in (
        replace(STUDY, metric=metric, mode=mode),
        replace(STUDY, metric="active_units", objectives={metric: mode}),
    ):
        if sentence is None:
            check_settings(study, None)
        else:
            with pytest.raises(UsageError, match=sentence):
                check_settings(study, None)


def test_disentanglement_is_held_by_a_setting_and_searched_by():
    search = replace(STUDY, metric="disentanglement/mig", mode="max")
    check_settings(laid([], ["disentanglement=true"], study=search), None)
    check_settings(laid([], ["disentanglement=[mig,dci]"], study=search), None)
    with pytest.raises(UsageError, match="no trial reports disentanglement/mig"):
        check_settings(laid([], ["disentanglement=[dci]"], study=search), None)
    of_dci = replace(search, metric="disentanglement/dci_completeness")
    check_settings(laid([], ["disentanglement=[dci]"], study=of_dci), None)
    gan = Study(GAN, {"learning_rate": tune.uniform(1e-4, 1e-3)}, {"image_size": 16, "width": 0.1})
    with pytest.raises(UsageError, match="no trial reports disentanglement/mig"):  # it has no encoder
        check_settings(laid([], ["disentanglement=true"], study=replace(gan, metric=search.metric)), None)


@pytest.mark.parametrize(
    ("name", "words"),
    [("beta", "above 0"), ("beta_start", "above 0"), ("beta_growth", "above 0"), ("beta_every", "1 or more")],
)
def test_a_beta_that_can_not_grow_is_refused(name, words):
    study = Study(ConvVAE, {"learning_rate": tune.uniform(1e-4, 1e-3)}, {"image_size": 16, "width": 0.1})
    study = replace(study, metric="elbo", mode="max")
    check_settings(study, None)
    with pytest.raises(UsageError, match=f"{name} is 0; it must be {words}$"):
        check_settings(laid([], [f"{name}=0"], study=study), None)


def test_a_step_of_this_projects_own_models_is_tried(monkeypatch):
    monkeypatch.setattr(check, "held_out_scores", lambda *_: 1 / 0)
    with pytest.raises(UsageError, match="ZeroDivisionError: division by zero"):
        check_settings(STUDY, None)


def test_without_an_encoder_its_scores_are_not_reported():
    study = Study(GAN, {"learning_rate": tune.uniform(1e-4, 1e-3)}, {"image_size": 16, "width": 0.1})
    check_settings(replace(study, metric="sample_diversity"), None)
    for metric in ("elbo", "kl", "fd_random"):
        with pytest.raises(UsageError, match=f"no trial reports {metric}; it reports evaluation_seconds, "):
            check_settings(replace(study, metric=metric, mode="max"), None)


@pytest.mark.parametrize(
    "name",
    [
        *("elbo", "active_units", "kl_per_unit", "sample_diversity", "evaluated_images", "images_per_second"),
        *("evaluation_seconds", "fd_random", "kid_random_std", "ex_post/fd_random", "loss/kl", "class/2"),
        *("beta", "gamma", "batch_size"),
    ],
)
def test_an_own_score_has_a_name_of_its_own(name, tmp_path, monkeypatch):
    (tmp_path / "owned.py").write_text(f"def scores(model, samples):\n    return {{{name!r}: 1.0}}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "owned", raising=False)
    with pytest.raises(
        UsageError, match=f"owned:scores returns {name}, named like what a trial reports itself"
    ):
        check_settings(laid([], ["scores=owned:scores"]), None)


def test_a_batch_beyond_the_set_is_refused(tmp_path):
    small = {"dataset": "faces", "dataset_limit": 60, "image_size": 16, "cache_dir": str(tmp_path)}
    study = replace(STUDY, settings=STUDY.settings | small)
    check_settings(laid(["batch_size=choice(8,16)"], study=study), None)
    with pytest.raises(UsageError, match="which gives no batch of 100; choose a batch size of 48"):
        check_settings(laid(["batch_size=choice(8,100)"], study=study), None)


def test_the_images_are_opened_once(tmp_path, monkeypatch):
    """Opening a folder's looks at all of its files, of which there may be millions."""
    small = {"dataset": "faces", "dataset_limit": 60, "image_size": 16, "cache_dir": str(tmp_path)}
    study = laid(["batch_size=choice(8,12,16)"], study=replace(STUDY, settings=STUDY.settings | small))
    opened = []
    monkeypatch.setattr(check, "load_store", lambda *asked: opened.append(asked) or load_store(*asked))
    check.check_settings(study, None)
    assert len(opened) == 1


def test_folders_of_first_stages_are_named_as_trials_find_them(tmp_path, monkeypatch):
    """They run in folders of their own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    held = from_anywhere(replace(STUDY, settings={**STUDY.settings, "first_stage": "a"}))
    assert held.settings["first_stage"] == str(tmp_path / "a")
    searched = from_anywhere(replace(STUDY, space={"first_stage": tune.choice(["a", "elsewhere"])}))
    assert searched.space["first_stage"].categories == [str(tmp_path / "a"), "elsewhere"]


def test_a_sweep_of_given_trials_is_not_searched():
    study = replace(STUDY, points=({"beta": 1.0},))
    with pytest.raises(UsageError, match="searches nothing"):
        laid(["gamma=uniform(1,2)"], study=study)
    with pytest.raises(UsageError, match="this sweep's trials differ in it"):
        laid([], ["beta=2"], study=study)
    assert laid([], ["gamma=2"], study=study).settings["gamma"] == 2


@pytest.mark.parametrize(
    ("second", "sentence"),
    [
        ({"beta": 2.0, "latent_dim": 0}, "A trial of beta = 2, latent_dim = 0 can't be built"),
        ({"beta": 2.0, "batch_size": 1}, "batch_size = 1 can't be built"),
        ({"beta": 2.0, "seed": -1}, "seed = -1 can't be built"),
        ({"beta": 2.0, "precision": "float31"}, "precision = float31 can't be built"),
        ({"beta": 2.0, "seed": 1.5}, "seed is 1.5; it must be a whole number"),
        ({"beta": 2.0, "gamma": float("inf")}, "gamma is inf; it must be finite"),
        ({"beta": 2.0, "compile": 1}, "compile is 1; it must be True or False"),
    ],
)
@pytest.mark.filterwarnings("ignore:Initializing zero-element")
def test_each_given_trial_is_checked(second, sentence):
    with pytest.raises(UsageError, match=sentence):
        check_settings(STUDY, [{"beta": 1.0}, second])


def test_a_whole_number_that_is_set_leaves_given_trials_any_number():
    study = laid([], ["gamma=2"], study=replace(STUDY, points=({"beta": 1.0},)))
    check_points([{"beta": 1.0, "gamma": 0.5}], "p.json", read_space(study.space), study.settings)
    check_settings(study, [{"beta": 1.0, "gamma": 0.5}])


def test_of_many_choices_some_are_built():
    study = laid([f"latent_dim=choice({','.join(map(str, range(1, 2000)))})"])
    built = [end["latent_dim"] for end in ends_of(study) if "latent_dim" in end]
    assert built[0] == 1 and len(built) <= 32


class Kind(Enum):
    A = "a"


@dataclass(frozen=True)
class Inner:
    depth: int = 2


@dataclass(frozen=True)
class OwnConfig:
    learning_rate: float = 1e-3
    sizes: tuple[int, ...] = (4, 8)


@dataclass(frozen=True)
class Nested(OwnConfig):
    inner: Inner = Inner()


@dataclass(frozen=True)
class Derived(OwnConfig):
    area: int = field(init=False, default=4)


@dataclass(frozen=True)
class Place(OwnConfig):
    folder: Path = Path("a")


@dataclass(frozen=True)
class Enumerated(OwnConfig):
    kind: Kind = Kind.A


class Own(GenerativeModel):
    """A linear generator of 16×16 images."""

    Config = OwnConfig

    def build(self):
        assert isinstance(self.config.sizes, tuple)
        self.net = nn.Linear(self.config.sizes[0], 3 * 16 * 16)

    def draw(self, n, generator):
        z = torch.randn(n, self.config.sizes[0], generator=generator)
        return self.net(z).view(n, 3, 16, 16).tanh()

    def loss(self, x):
        return (self.draw(len(x), self.generator) - x).square().mean()

    def sample(self, n, generator=None):
        return self.draw(n, generator or self.generator)


class Scheduled(Own):
    """Its learning rate falls by a millionth a step, by a plain attribute."""

    def build_optimizers(self):
        optimizers = super().build_optimizers()
        self.plan = torch.optim.lr_scheduler.LambdaLR(optimizers["model"], lambda step: 1 - 1e-6 * step)
        return optimizers

    def training_step(self, x):
        losses = super().training_step(x)
        self.plan.step()
        return losses


class Kept(Scheduled):
    """The same, and it is saved."""

    def training_state(self):
        return super().training_state() | {"plan": self.plan.state_dict()}

    def load_training_state(self, state):
        super().load_training_state(state)
        self.plan.load_state_dict(state["plan"])


class Counting(Own):
    count = 0

    def loss(self, x):
        self.count += 1
        return super().loss(x) * self.count


class Dropping(Own):
    def loss(self, x):
        return super().loss(nn.functional.dropout(x))


class Drawing(Own):
    def loss(self, x):
        return super().loss(x * random.random())


def own_study(model, **changes):
    made = type(model.__name__, (GenerativeTrainable,), {"model_class": model})
    space = {"learning_rate": tune.loguniform(1e-4, 1e-2)}
    return Study(made, space, {"image_size": 16} | changes, "sample_diversity", "", mode="max")


@pytest.mark.parametrize("model", [Own, Kept, Dropping])
def test_a_model_of_ones_own_that_goes_on_as_it_was_is_tuned(model):
    check_settings(own_study(model), None)
    check_settings(own_study(model, sizes=[5]), None)  # as --set reads a list


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (
            Scheduled,
            r"another learning rate of model after the third: .*holds \(not on plan\), and on",
        ),
        (Counting, r"^Counting, saved and loaded after two steps, .* another net.weight .*\(not on count\)"),
        (Drawing, "another net.weight after the third: .* holds, and on torch's random numbers"),
    ],
)
def test_a_model_that_does_not_go_on_as_it_was_is_told(model, sentence):
    with pytest.raises(UsageError, match=sentence):
        check_settings(own_study(model), None)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (Nested, r"Config, whose inner comes back as {'depth': 2}: its fields must be numbers"),
        (Derived, r"Config \(.*unexpected keyword argument 'area'\): its fields must be numbers"),
        (Place, r"Config \(Object of type PosixPath is not JSON serializable\)"),
        (Enumerated, r"Config \(Object of type Kind is not JSON serializable\)"),
    ],
)
def test_a_config_that_a_record_can_not_keep_is_told(config, sentence):
    model = type("Mine", (Own,), {"Config": config, "__module__": __name__})
    with pytest.raises(UsageError, match=f"a record can't keep Mine.{sentence}"):
        check_settings(own_study(model), None)


def many(model, samples):
    assert len(samples) == 30
    return {"sharpness": 1.0}


def test_own_scores_are_tried_on_as_many_samples_as_they_will_get():
    check_settings(own_study(Own, scores=f"{__name__}:many", evaluation_samples=30), None)
    with pytest.raises(UsageError, match=":many raised AssertionError on 64 samples"):
        check_settings(own_study(Own, scores=f"{__name__}:many", evaluation_samples=500), None)


def nowhere(model, samples):
    return {"endless": float("inf"), "unknown": float("nan"), "sharpness": 1.0}


@pytest.mark.parametrize(("metric", "said"), [("endless", "inf"), ("unknown", "nan")])
def test_an_own_score_that_is_never_finite_is_not_searched_by(metric, said):
    study = own_study(Own, scores=f"{__name__}:nowhere")
    check_settings(replace(study, metric="sharpness"), None)
    for searched in (replace(study, metric=metric), replace(study, objectives={metric: "min"})):
        with pytest.raises(UsageError, match=f"{metric} is {said} of a model at its first step"):
            check_settings(searched, None)


def test_losses_have_names_that_the_record_can_keep():
    step = {"loss 100%": torch.tensor(1.0, requires_grad=True)}
    model = type("Odd", (Own,), {"training_step": lambda self, x: step})
    with pytest.raises(
        UsageError, match=r"Odd\.training_step returns 'loss 100%', a name that MLflow refuses"
    ):
        check_settings(own_study(model), None)


@pytest.mark.parametrize(
    ("kind", "space", "said"),
    [
        (
            Flow,
            {"batch_size": tune.choice([4, 16, 64]), "accumulate": tune.choice([1, 2, 8])},
            "A trial of batch_size = 4, accumulate = 8 can't be built: accumulate is 8: a part",
        ),
        (
            EDM,
            {
                "sigma_min": tune.uniform(0.01, 0.6),
                "sigma_max": tune.uniform(0.5, 80),
                "rho": tune.uniform(1, 9),
            },
            "sigma_min = 0.6, sigma_max = 0.5, rho = 5 can't be built: .* sigma_max must be above sigma_min",
        ),
    ],
)
def test_two_settings_that_do_not_go_together_are_refused_before_the_first_trial(tmp_path, kind, space, said):
    small = {
        "dataset": "faces",
        "dataset_limit": 100,
        "image_size": 16,
        "width": 0.1,
        "cache_dir": str(tmp_path),
    }
    study = Study(kind, space, {**small, "epochs": 1}, "sample_diversity", mode="max")
    with pytest.raises(UsageError, match=said):
        check_settings(study, None)


def test_the_ends_are_values_that_a_trial_can_have():
    study = laid(["latent_dim=qrandint(1,66,8)"])
    assert [end["latent_dim"] for end in ends_of(study) if "latent_dim" in end] == [8, 64]
    assert extent(read_space(study.space).dimensions[1]) == "latent_dim: 8 to 64 (whole numbers)"
