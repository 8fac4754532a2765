"""The scores of densities, which VAEs and fitted models report alike.

`nats_per_image` is the mean log-likelihood of held-out images, or its lower bound for a VAE, of pixels in
[0, 1]; higher is better. A Bernoulli's and a Gaussian's are densities of different things and are never to be
ranked against each other: `likelihood` of the model says which it is.
"""

import math

import torch
from torch import Tensor

from trainables.evaluation.generation import EVALUATION_SEED
from trainables.metrics.likelihood import bits_per_dim, importance_weighted_bound
from trainables.models import bernoulli_vae
from trainables.models.densities import FittedDensity
from trainables.models.losses import reparameterize

OBJECTIVE = "nats_per_image"
SLAB = 1000  # images scored at a time
IMPORTANCE_SAMPLES = 50  # latents an image


def likelihood_scores(nats: float, dims: int, likelihood: str) -> dict[str, float]:
    """Return `nats_per_image` and `bits_per_dim` of a mean log-likelihood of `dims` pixels in [0, 1].

    A Gaussian's bits are those of 256 grey levels; a Bernoulli's are those of one binary pixel.
    """
    levels = 255 if likelihood.startswith("gaussian") else 1
    return {OBJECTIVE: nats, "bits_per_dim": bits_per_dim(nats, dims, levels_per_unit=levels)}


@torch.no_grad()
def score(model: bernoulli_vae.BernoulliVAE | FittedDensity, x: Tensor) -> dict[str, float]:
    """Return the scores of images (B, C, H, W): likelihood, `reconstruction_mse` a pixel in [0, 1], `kl`.

    x is on the model's device. Reconstructions go by the posterior mean. `nats_standard_error`: that of the
    mean over images. Of a VAE, whose `nats_per_image` are the evidence lower bound, also the
    importance-weighted bound with `importance_samples` latents an image, `nats_importance_weighted`, which is
    nearer to the likelihood.
    """
    noise = torch.Generator(x.device).manual_seed(EVALUATION_SEED)
    nats, errors, kl = [], [], []
    for part in x.split(SLAB):
        if isinstance(model, FittedDensity):
            nats.append(model.log_likelihood(part))
        else:
            terms = model.elbo(part, noise)
            nats.append(terms.elbo.cpu().double())
            kl.append(terms.kl_divergence.cpu())
        error = (model.reconstruct(part).cpu() - part.cpu()) / 2
        errors.append(error.double().square().flatten(1).mean(1))
    each = torch.cat(nats)
    scores = likelihood_scores(float(each.mean()), x[0].numel(), model.likelihood)
    scores["nats_standard_error"] = float(each.std() / math.sqrt(len(each)))
    scores["reconstruction_mse"] = float(torch.cat(errors).mean())
    if isinstance(model, FittedDensity):
        return scores
    weights = (log_weights(model, part, IMPORTANCE_SAMPLES, noise) for part in x.split(SLAB))
    bound = torch.cat([importance_weighted_bound(part) for part in weights])
    return scores | {
        "kl": float(torch.cat(kl).mean()),
        "nats_importance_weighted": float(bound.mean()),
        "importance_samples": IMPORTANCE_SAMPLES,
    }


@torch.no_grad()
def log_weights(
    model: bernoulli_vae.BernoulliVAE, x: Tensor, samples: int, generator: torch.Generator
) -> Tensor:
    """Return log p(x, zₖ)/q(zₖ|x), nats, of `samples` draws zₖ from q(z|x) for each image, (samples, B)."""
    model.eval()
    mean, log_variance = model.encode(x)
    weights = []
    for _ in range(samples):
        z = reparameterize(mean, log_variance, generator)
        prior_to_posterior = 0.5 * ((z - mean).square() / log_variance.exp() + log_variance - z.square())
        likelihood = bernoulli_vae.bernoulli_log_likelihood(x, model.logits(z))
        weights.append(likelihood + prior_to_posterior.sum(1))
    return torch.stack(weights).cpu()
