"""What every model does alike, however it trains: loss scales, half precision, compilation, exact resume."""

import dataclasses
import functools

import pytest
import torch

from tests.fixtures.models import MODELS, NARROW
from trainables.models.vaegan import VAEGAN

every_model = pytest.mark.parametrize("name", MODELS)


def images(seed=0, n=12):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, 16, 16, 3, generator=generator).permute(0, 3, 1, 2) * 2 - 1


def build(name, scales=(), **options):
    """Return the model, with these initial loss scales of its optimizers where losses are scaled."""
    model_class, settings = MODELS[name]
    model = model_class(model_class.configure(settings), scale_losses=bool(scales), **options)
    for optimizer, scale in zip(model.optimizers, scales, strict=False):
        model.scalers[optimizer] = torch.amp.GradScaler("cpu", init_scale=scale)
    return model


def train(model, steps, dtype=None, n=12):
    for step in steps:
        with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
            model.training_step(images(step, n))
    return model


def assert_same_weights(a, b):
    for (name, value), other in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        assert torch.equal(value, other), name


@every_model
def test_whatever_the_scales_the_gradients_are_the_losses_own(name):
    """Powers of two lose nothing in float32, so only a wrong or forgotten scale could make a difference."""
    plain = train(build(name), range(3))
    scaled = train(build(name, scales=(2.0**3, 2.0**7, 2.0**-2)), range(3))
    assert_same_weights(plain, scaled)
    expected = gradients(plain)
    assert all(torch.equal(vector, expected[optimizer]) for optimizer, vector in gradients(scaled).items())


def gradients(model):
    """Return the gradients of each optimizer as one vector."""
    found = {}
    for name, optimizer in model.optimizers.items():
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        found[name] = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]).double()
    return found


@pytest.mark.parametrize(("dtype", "cosine"), [(torch.bfloat16, 0.9), (torch.float16, 0.985)])
@every_model
def test_half_precision_has_float32s_gradients(name, dtype, cosine, monkeypatch):
    """Direction and length are the same as far as the format's 8 or 11 bits reach in fresh networks.

    In a batch of 12 images rounding alone turned the decoder's gradient by as much as a cosine of 0.88.
    """
    full = build(name)
    half = build(name, scales=(64.0, 4.0, 1024.0) if dtype == torch.float16 else ())
    for model in (full, half):
        for optimizer in model.optimizers.values():
            monkeypatch.setattr(optimizer, "step", lambda: None)
    train(full, range(2), n=48)
    train(half, range(2), dtype, n=48)
    found = gradients(half)
    for optimizer, expected in gradients(full).items():
        assert torch.cosine_similarity(found[optimizer], expected, dim=0) > cosine
        assert found[optimizer].norm() / expected.norm() == pytest.approx(1, abs=0.25)
        assert not torch.equal(found[optimizer], expected)


@pytest.mark.parametrize("dtype", [None, torch.float16])
@every_model
def test_every_model_goes_on_bit_equal(name, dtype):
    """In float16 it also goes through overflows, since the scales begin at 65536."""
    scales = (2.0**16,) * 3 if dtype else ()
    straight = train(build(name, scales), range(5), dtype)
    interrupted = train(build(name, scales), range(2), dtype)
    resumed = build(name, (2.0,) * 3 if dtype else (), seed=99)
    resumed.load_training_state(interrupted.training_state())
    train(resumed, range(2, 5), dtype)
    assert_same_weights(straight, resumed)
    assert straight.training_state()["scalers"] == resumed.training_state()["scalers"]


MUTATED = {"learning_rate": 0.0123, "discriminator_learning_rate": 0.0045, "adam_beta1": 0.31}


@every_model
def test_after_loading_the_configurations_options_stand(name):
    """Population-based training mutates them and then loads another trial's state."""
    model_class, settings = MODELS[name]
    donor = train(build(name), range(2))
    names = {field.name for field in dataclasses.fields(model_class.Config)}
    changed = settings | {key: value for key, value in MUTATED.items() if key in names}
    mutated = model_class(model_class.configure(changed))
    configured = {
        key: optimizer.state_dict()["param_groups"] for key, optimizer in mutated.optimizers.items()
    }
    mutated.load_training_state(donor.training_state())
    for key, optimizer in mutated.optimizers.items():
        loaded, theirs = optimizer.state_dict(), donor.optimizers[key].state_dict()
        assert loaded["param_groups"] == configured[key] != theirs["param_groups"]
        assert_same_moments(loaded["state"], theirs["state"])
    rates = learning_rates(mutated)
    train(mutated, [2])
    if model_class.needs_progress:  # the schedule's share of the mutated rate is its share of the donor's
        train(donor, [2])
        for key, optimizer in mutated.optimizers.items():
            option = "discriminator_learning_rate" if key == "discriminator" else "learning_rate"
            own = getattr(donor.config, option, None) or donor.config.learning_rate
            share = MUTATED[option] / own
            theirs = [share * group["lr"] for group in donor.optimizers[key].param_groups]
            assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(theirs)
    elif "decay_steps" not in names:  # a schedule goes on from the mutated rate
        assert learning_rates(mutated) == rates


def learning_rates(model):
    return [group["lr"] for optimizer in model.optimizers.values() for group in optimizer.param_groups]


def assert_same_moments(loaded, saved):
    assert loaded.keys() == saved.keys()
    for parameter, moments in saved.items():
        assert all(torch.equal(loaded[parameter][name], value) for name, value in moments.items())


def test_an_option_that_a_schedule_moved_is_restored():
    donor = train(build("VAE"), range(2))
    for optimizer in donor.optimizers.values():
        torch.optim.lr_scheduler.ConstantLR(optimizer, factor=0.25)
    resumed = build("VAE")
    resumed.load_training_state(donor.training_state())
    assert resumed.optimizers["autoencoder"].param_groups[0]["lr"] == 0.25 * resumed.config.learning_rate


def test_an_optimizer_of_another_kind_begins_afresh():
    adam = train(build("VAE-GAN, report"), range(2))
    mutated = VAEGAN(VAEGAN.configure(NARROW | {"gamma": 0.3, "optimizer": "rmsprop"}))
    mutated.load_training_state(adam.training_state())
    assert not mutated.optimizers["encoder"].state
    assert_same_weights(adam, mutated)
    train(mutated, [2])


def test_an_overflow_costs_its_own_optimizer_a_step_and_half_its_scale():
    model = build("VAE-GAN, non-saturating", scales=(2.0, 4.0, 2.0**120))
    before = {name: value.clone() for name, value in model.named_parameters()}
    train(model, [0], torch.float16)
    moved = {
        name.split(".")[0] for name, value in model.named_parameters() if not torch.equal(value, before[name])
    }
    assert moved == {"encoder", "decoder", "averaged_decoder"}
    assert [scaler.get_scale() for scaler in model.scalers.values()] == [2.0, 4.0, 2.0**119]


def test_a_checkpoint_without_loss_scales_is_refused_where_losses_are_scaled():
    with pytest.raises(RuntimeError, match="GradScaler"):
        build("VAE", scales=(2.0,)).load_training_state(build("VAE").training_state())


@every_model
def test_the_memory_format_changes_no_gradient(name):
    """Networks and images are channels last, and channels first must give the same."""
    last, first = build(name).double(), build(name).double()
    first.to(memory_format=torch.contiguous_format)
    x = images().double()
    assert x.is_contiguous(memory_format=torch.channels_last)
    losses, expected = last.training_step(x), first.training_step(x.contiguous())
    for key, value in expected.items():
        torch.testing.assert_close(losses[key], value, msg=key)
    for a, b in zip(last.parameters(), first.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def assert_compiled_is_eager(name, dtype=None, tolerance=1e-4):
    eager, compiled = build(name), build(name)
    compiled.compile()
    for step in range(3):
        losses = []
        for model in (eager, compiled):
            with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
                losses.append(model.training_step(images(step)))
        for key, value in losses[0].items():
            torch.testing.assert_close(losses[1][key], value, rtol=tolerance, atol=tolerance, msg=key)
    compiled.load_training_state(eager.training_state())
    with compiled.eager():
        noise = [torch.Generator().manual_seed(0) for _ in range(2)]
        assert torch.equal(eager.sample(3, noise[0]), compiled.sample(3, noise[1]))


COMPILERS_OWN = pytest.mark.filterwarnings("ignore:The .grad attribute")


@COMPILERS_OWN
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "VAE" else pytest.mark.slow) for name in MODELS]
)
def test_a_compiled_model_trains_as_an_eager_one(name, monkeypatch):
    """Through several passes back, second derivatives and steps that some networks rest in.

    It is without the compiler's last stage, which writes kernels, but for the test below.
    """
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    assert_compiled_is_eager(name)


@pytest.mark.slow
@COMPILERS_OWN
def test_compiled_kernels_train_as_eager_ones():
    from torch._dynamo.utils import counters

    counters.clear()
    assert_compiled_is_eager("VAE-GAN, report", tolerance=0.01)
    assert counters["aot_autograd"]["total"] >= 4  # graphs, from a cache or not
