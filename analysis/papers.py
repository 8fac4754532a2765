"""What the seeds' papers published, and which of our trials stands beside each number.

A row's `match` is what a trial's columns must be, as `analysis.record.runs` names them, and `model` is the
end of the model's name; `or_match` is how another sweep records the same. Numbers on another scale than ours
are converted, and the note says how.
"""

import math
from dataclasses import dataclass, field

PIXELS = 28 * 28
# log p of pixels in [0, 1] = log p of pixels in [0, 255] + D·log 255.
TO_UNIT_SCALE = PIXELS * math.log(255)


@dataclass(frozen=True)
class Row:
    """`published`: value, or (value, deviation), by the column's label; nothing where the paper has none."""

    label: str
    published: dict[str, float | tuple[float, float]]
    match: dict[str, object]
    or_match: dict[str, object] | None = None


@dataclass(frozen=True)
class Column:
    """`metric`: our key, or its beginning and "*"; sign: 1 where lower is better, −1 where higher is."""

    label: str
    metric: str
    sign: int


@dataclass(frozen=True)
class PaperTable:
    """One table: its rows, columns, the conditions of the paper's numbers, and where they stand."""

    key: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    conditions: str
    note: str = ""
    match: dict[str, object] = field(default_factory=dict)


FID = Column("FID", "f*d*", 1)
VAEGAN = {"model": "vaegan:VAEGAN"}
FID_BY_BETA = ((25, 130.07), (50, 147.92), (75, 126.75), (100, 137.98), (150, 151.08))
MSE = Column("MSE", "reconstruction_mse", 1)


def _beta(beta: float, fid: float) -> Row:
    named = {"params.model": "beta-VAE-GAN", "params.beta": beta}
    return Row(f"β-VAE-GAN, β = {beta:g}", {"FID": fid}, {**VAEGAN, "params.beta": beta}, named)


TABLES = (
    PaperTable(
        "vaegan-baselines",
        "Baselines (β-VAE-GAN report, Table 2)",
        (FID,),
        (
            Row("GAN", {"FID": 196.00}, {"params.model": "GAN"}, {"model": ".gan:GAN"}),
            Row("VAE", {"FID": 209.00}, {"params.model": "VAE"}, {"model": ".vae:VAE"}),
            Row("VAE-GAN", {"FID": 139.33}, {"params.model": "VAE-GAN"}, {**VAEGAN, "params.beta": 1.0}),
        ),
        "CelebA 64×64, 10 epochs, Inception, 1000 images",
    ),
    PaperTable(
        "vaegan-beta",
        "β-VAE-GAN (report, Table 4; β = 25 from the authors' log)",
        (FID,),
        (
            *(_beta(beta, fid) for beta, fid in FID_BY_BETA),
            Row("β found by the search", {}, {**VAEGAN, "best": ("params.beta",)}),
        ),
        "CelebA 64×64, 10 epochs, Inception, 1000 images",
    ),
    PaperTable(
        "lego",
        "LEGO-face VAE (slides: the sizes that Bayesian optimisation finds)",
        (Column("validation loss", "validation_loss_last3", 1),),
        (
            Row(
                "best sizes found",
                {},
                {"model": "lego_vae:LegoVAE", "best": ("params.hidden", "params.latent_dim")},
            ),
        ),
        "about 2600 LEGO faces 128×128, 100 trials of 50 epochs; the slides print no value",
    ),
    PaperTable(
        "happy-people-methods",
        "Latent-space optimisation (Happy People, Figure 3)",
        (Column("Top50", "top50", -1), FID),
        (
            Row("VAE, weighted retraining", {"Top50": 1.70}, {"params.method": "vae-retrained"}),
            Row("VQ-VAE", {"Top50": 2.42}, {"params.method": "vqvae", "params.free": 8}),
            Row(
                "VQ-VAE, weighted retraining",
                {"Top50": (2.50, 0.05), "FID": 41.69},
                {"params.method": "vqvae-retrained", "params.free": 8},
            ),
        ),
        "CelebA 64×64, 500 queries, 20 seeds, Inception",
    ),
    PaperTable(
        "happy-people-free",
        "Free latent positions t (Happy People, Table 1)",
        (FID, Column("Top10", "top10", -1), Column("Top50", "top50", -1)),
        tuple(
            Row(f"t = {t}", {"FID": fid, "Top10": ten, "Top50": fifty}, {"params.free": t})
            for t, fid, ten, fifty in (
                (4, 42.69, (2.72, 0.07), (2.42, 0.04)),
                (8, 41.69, (2.85, 0.07), (2.50, 0.05)),
                (16, 43.70, (2.88, 0.06), (2.58, 0.02)),
            )
        ),
        "CelebA 64×64, 500 queries, 20 seeds, Inception",
        match={"params.method": "vqvae-retrained"},
    ),
    PaperTable(
        "densities-bernoulli",
        "Density models on MNIST, Bernoulli (Table 1)",
        (Column("ELBO, nats an image", "nats_per_image", -1), MSE),
        (
            Row(
                "VAE",
                {"ELBO, nats an image": -142.8134, "MSE": 0.037524},
                {
                    "model": "BernoulliVAE",
                    "params.networks": "dense",
                    "params.hidden": 400,
                    "params.latent_dim": 2,
                },
            ),
            Row(
                "CVAE",
                {"ELBO, nats an image": -156.8176, "MSE": 0.044254},
                {
                    "model": "BernoulliVAE",
                    "params.networks": "convolutional",
                    "params.width": 1.0,
                    "params.latent_dim": 2,
                },
            ),
        ),
        "MNIST test images, pixels in [0, 1], 25 epochs",
    ),
    PaperTable(
        "densities-gaussian",
        "Density models on MNIST, Gaussian (Table 1)",
        (Column("log-likelihood, nats an image", "nats_per_image", -1), MSE),
        (
            Row(
                "PPCA",
                {"log-likelihood, nats an image": -4329.656 + TO_UNIT_SCALE, "MSE": 3629.250732 / 255**2},
                {"model": "densities:PPCA", "params.latent_dim": 2},
            ),
            Row(
                "GMM",
                {
                    "log-likelihood, nats an image": -1.067011e7 / 1e4 + TO_UNIT_SCALE,
                    "MSE": 3831.718461 / 255**2,
                },
                {"model": "densities:GaussianMixture", "params.components": 10},
            ),
        ),
        "MNIST test images, pixels in [0, 1]",
        note=(
            "The paper's are of pixels in 0–255: +784·ln 255 nats, MSE / 255². Its GMM's is a sum over "
            "10 000 images. A Bernoulli's ELBO is a density of something else and has a table of its own."
        ),
    ),
)
