"""The pairing loss, its penalties, and one backward pass through the discriminator for both players."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from trainables.models.modern_networks import Discriminator
from trainables.models.relativistic import (
    generator_share,
    judge,
    pairing_loss,
    random_shift,
    relative_error,
    translated,
    zero_centered_penalty,
)

ONE = torch.ones(())


def images(n, seed=0, size=16):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, 3, size, size, generator=generator, dtype=torch.float64) * 2 - 1


def discriminator():
    torch.manual_seed(3)
    return Discriminator(16, 3, 0.2).double()


def test_pairing_loss_is_the_papers():
    real, fake = torch.tensor([2.0, -1.0]), torch.tensor([0.5, 3.0])
    expected = -(torch.sigmoid(real - fake).log()).mean()
    torch.testing.assert_close(pairing_loss(real, fake), expected)


def test_generator_share_is_the_ratio_of_both_players_gradients():
    real, fake = torch.randn(6, dtype=torch.float64), torch.randn(6, dtype=torch.float64).requires_grad_()
    (own,) = torch.autograd.grad(pairing_loss(real, fake), fake)
    (generators,) = torch.autograd.grad(pairing_loss(fake, real), fake)
    torch.testing.assert_close(generator_share(real, fake) * own, generators)
    assert generator_share(torch.tensor([1e4]), torch.tensor([0.0])).isfinite().all()


@pytest.mark.parametrize("pairs", [0, 3, 6])
def test_one_pass_back_serves_both_players(pairs):
    """Against separate passes for L_D, L_G, the feature loss and the penalties, all by autograd."""
    judged, reference = discriminator(), discriminator()
    x, fake, shift = images(6), images(6, 1).requires_grad_(), (1, -2)
    verdict = judge(judged, x, fake, pairs, scale=4 * ONE, penalty=0.3, shift=shift)

    stages, real = reference(translated(x, shift))
    leaf = fake.detach().requires_grad_()
    fake_stages, logits = reference(translated(leaf, shift))
    (expected,) = torch.autograd.grad(F.softplus(real - logits).mean(), leaf, retain_graph=True)
    torch.testing.assert_close(verdict.gradient, expected)

    penalty = 0.0
    for batch in (x, fake.detach()):
        shown = translated(batch, shift).requires_grad_()
        (gradient,) = torch.autograd.grad(reference(shown)[1].sum(), shown, create_graph=True)
        penalty = penalty + 0.5 * gradient.square().sum((1, 2, 3)).mean()
    own = list(reference.parameters())
    loss = 4 * (F.softplus(logits - real).mean() + 0.3 * penalty)
    for parameter, wanted in zip(
        judged.parameters(), torch.autograd.grad(loss, own, retain_graph=True), strict=True
    ):
        torch.testing.assert_close(parameter.grad, wanted)

    assert not verdict.feature_gradient[pairs:].any()
    if pairs:
        feature = sum(
            (a[:pairs] - b[:pairs]).square().mean() / a.var(0).mean()
            for a, b in zip(stages, fake_stages, strict=True)
        ) / len(stages)
        (expected,) = torch.autograd.grad(feature, leaf)
        torch.testing.assert_close(verdict.feature_gradient, expected)
        torch.testing.assert_close(verdict.losses["feature"], feature.detach())


def test_penalty_of_a_linear_discriminator_is_half_its_squared_weight():
    linear = nn.Linear(3 * 16 * 16, 1).double()
    penalty = zero_centered_penalty(lambda x: linear(x.flatten(1)).squeeze(1), images(5))
    torch.testing.assert_close(penalty, 0.5 * linear.weight.square().sum())
    penalty.backward()
    torch.testing.assert_close(linear.weight.grad, linear.weight.detach())


def test_penalties_weigh_real_and_fake_images_alike():
    """With D(x) = Σx² the gradient is 2x: R1 + R2 is 2·E‖x‖² over both."""

    class Square(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones((), dtype=torch.float64))

        def forward(self, x):
            return [x], self.weight * x.square().flatten(1).sum(1)

    square, x, fake = Square(), images(4), 0.1 * images(4, 1)
    judge(square, x, fake.requires_grad_(), 0, scale=ONE, penalty=0.0)
    plain = square.weight.grad.clone()
    square.weight.grad = None
    judge(square, x, fake.detach().requires_grad_(), 0, scale=ONE, penalty=1.0)
    both = 2 * (x.square().flatten(1).sum(1).mean() + fake.detach().square().flatten(1).sum(1).mean())
    torch.testing.assert_close(square.weight.grad - plain, 2 * both)  # d/dw of w²


def test_relative_error_is_one_for_the_mean_and_teaches_no_real_feature():
    torch.manual_seed(0)
    real = [torch.randn(400, 5, dtype=torch.float64).requires_grad_() for _ in range(2)]
    mean = [a.detach().mean(0).expand(400, -1).clone().requires_grad_() for a in real]
    error = relative_error(real, mean)
    assert error.item() == pytest.approx(399 / 400)
    error.backward()
    assert all(a.grad is None for a in real)
    assert all(b.grad is not None for b in mean)


def test_translation_moves_whole_pixels_and_fills_with_grey():
    x = images(2)
    moved = translated(x, (2, -3))
    assert torch.equal(moved[:, :, 2:, :-3], x[:, :, :-2, 3:])
    assert not moved[:, :, :2].any()
    assert not moved[:, :, :, -3:].any()


def test_shifts_reach_an_eighth_of_the_side_both_ways():
    generator = torch.Generator().manual_seed(0)
    shifts = [random_shift(32, generator) for _ in range(400)]
    assert {row for row, _ in shifts} == {column for _, column in shifts} == set(range(-4, 5))
