"""What the four papers published, once; and which of our trials stands beside each number.

The papers are [BVG], [LEGO], [HP] and [PML], as docs/papers.md names them. A row's `match` is what a trial's
columns must be, as `analysis.record.tables` names them, and `model` is the end of the model's name, or
several; `or_match` is how another sweep records the same, where no trial is as `match`
says. Numbers on another scale than ours are converted, and the note says how.
"""

import math
from dataclasses import dataclass, field

# [BVG]: Fréchet inception distances of CelebA, 64×64, 10 epochs. Table 2 has the baselines, Table 4 the
# β-VAE-GAN by β; β = 25 is from the authors' log. The VAE-GAN is the β-VAE-GAN at β = 1.
BASELINE_FID = {"GAN": 196.00, "VAE": 209.00, "VAE-GAN": 139.33}
FID_BY_BETA = {25: 130.07, 50: 147.92, 75: 126.75, 100: 137.98, 150: 151.08}
# The four first trials of [BVG]'s search (Table 4 and the authors' log), on which its Figure 5 is drawn.
FIRST_TRIALS = {1.0: BASELINE_FID["VAE-GAN"], **{float(beta): FID_BY_BETA[beta] for beta in (50, 100, 150)}}


@dataclass(frozen=True)
class Queries:
    """Scores of 500 queries on CelebA ([HP], Table 1, section 3): a value, with its deviation if printed."""

    top50: tuple[float, float | None]
    top10: tuple[float, float | None] | None = None
    fid: float | None = None


# [HP], by method and number of free positions t of the latent code (0: the method has none).
QUERIES = {
    ("vqvae-retrained", 4): Queries((2.42, 0.04), (2.72, 0.07), 42.69),
    ("vqvae-retrained", 8): Queries((2.50, 0.05), (2.85, 0.07), 41.69),
    ("vqvae-retrained", 16): Queries((2.58, 0.02), (2.88, 0.06), 43.70),
    ("vqvae", 8): Queries((2.42, None)),
    ("vae-retrained", 0): Queries((1.70, None), fid=50.51),
}


@dataclass(frozen=True)
class Density:
    """A model of [PML], Table 1, MNIST: nats an image and squared error a pixel, of pixels in [0, scale]."""

    nats: float
    squared_error: float
    scale: int = 1

    def on_unit_scale(self, dims: int) -> tuple[float, float]:
        """Return nats an image of `dims` pixels and squared error a pixel, both for pixels in [0, 1].

        log p of pixels in [0, 1] is log p of pixels in [0, 255] plus D·log 255.
        """
        return self.nats + dims * math.log(self.scale), self.squared_error / self.scale**2


IMAGES_SUMMED = 10_000  # the mixture's nats in [PML] are a sum over the test images
DENSITIES = {
    "vae": Density(-142.8134, 0.037524),
    "conv_vae": Density(-156.8176, 0.044254),
    "ppca": Density(-4329.656, 3629.250732, 255),
    "mixture": Density(-1.067011e7 / IMAGES_SUMMED, 3831.718461, 255),
}
PIXELS = 28 * 28


@dataclass(frozen=True)
class Row:
    """`published`: value, or (value, deviation), by the column's label; nothing where the paper has none.

    best: where it is not empty, only the best of the matching trials counts, with these columns beside it.
    """

    label: str
    published: dict[str, float | tuple[float, float]]
    match: dict[str, object]
    or_match: dict[str, object] | None = None
    best: tuple[str, ...] = ()


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
GAN: dict[str, object] = {"model": (".gan:GAN", "modern:ModernGAN")}
VAE: dict[str, object] = {"model": (".vae:VAE", "modern:ModernVAE")}
VAEGAN: dict[str, object] = {"model": ("vaegan:VAEGAN", "modern:ModernVAEGAN")}
MSE = Column("MSE", "reconstruction_mse", 1)
ELBO, LOG_LIKELIHOOD = "ELBO, nats an image", "log-likelihood, nats an image"


def _beta(beta: float, fid: float) -> Row:
    named: dict[str, object] = {"params.model": "beta-VAE-GAN", "params.beta": beta}
    return Row(f"β-VAE-GAN, β = {beta:g}", {"FID": fid}, {**VAEGAN, "params.beta": beta}, named)


def _queries(label: str, method: str, free: int, match: dict[str, object]) -> Row:
    known = QUERIES[method, free]
    published: dict[str, float | tuple[float, float]] = {"Top50": _value(known.top50)}
    if known.top10 is not None:
        published["Top10"] = _value(known.top10)
    if known.fid is not None:
        published["FID"] = known.fid
    return Row(label, published, match)


def _value(known: tuple[float, float | None]) -> float | tuple[float, float]:
    value, deviation = known
    return value if deviation is None else (value, deviation)


def _density(label: str, model: str, nats: str, match: dict[str, object]) -> Row:
    value, error = DENSITIES[model].on_unit_scale(PIXELS)
    return Row(label, {nats: value, "MSE": error}, match)


TABLES = (
    PaperTable(
        "vaegan-baselines",
        "Baselines ([BVG], Table 2)",
        (FID,),
        (
            Row("GAN", {"FID": BASELINE_FID["GAN"]}, {"params.model": "GAN"}, GAN),
            Row("VAE", {"FID": BASELINE_FID["VAE"]}, {"params.model": "VAE"}, VAE),
            Row(
                "VAE-GAN",
                {"FID": BASELINE_FID["VAE-GAN"]},
                {"params.model": "VAE-GAN"},
                {**VAEGAN, "params.beta": 1.0},
            ),
        ),
        "CelebA 64×64, 10 epochs, Inception, 1000 images",
    ),
    PaperTable(
        "vaegan-beta",
        "β-VAE-GAN ([BVG], Table 4; β = 25 from the authors' log)",
        (FID,),
        (
            *(_beta(beta, fid) for beta, fid in FID_BY_BETA.items()),
            Row("β found by the search", {}, VAEGAN, best=("params.beta", "params.penalty")),
        ),
        "CelebA 64×64, 10 epochs, Inception, 1000 images",
    ),
    PaperTable(
        "lego",
        "LEGO-face VAE ([LEGO]: the sizes that Bayesian optimization finds)",
        (Column("validation loss", "validation_loss_last3", 1),),
        (
            Row(
                "best sizes found",
                {},
                {"model": "lego_vae:LegoVAE"},
                best=("params.hidden", "params.latent_dim"),
            ),
        ),
        "about 2600 LEGO faces 128×128, 100 trials of 50 epochs; the slides print no value",
    ),
    PaperTable(
        "happy-people-methods",
        "Latent-space optimization ([HP], Figure 3)",
        (Column("Top50", "top50", -1), FID),
        (
            _queries("VAE, weighted retraining", "vae-retrained", 0, {"params.method": "vae-retrained"}),
            _queries("VQ-VAE", "vqvae", 8, {"params.method": "vqvae", "params.free": 8}),
            _queries(
                "VQ-VAE, weighted retraining",
                "vqvae-retrained",
                8,
                {"params.method": "vqvae-retrained", "params.free": 8},
            ),
        ),
        "CelebA 64×64, 500 queries, 20 seeds, Inception",
    ),
    PaperTable(
        "happy-people-free",
        "Free latent positions t ([HP], Table 1)",
        (FID, Column("Top10", "top10", -1), Column("Top50", "top50", -1)),
        tuple(_queries(f"t = {t}", "vqvae-retrained", t, {"params.free": t}) for t in (4, 8, 16)),
        "CelebA 64×64, 500 queries, 20 seeds, Inception",
        match={"params.method": "vqvae-retrained"},
    ),
    PaperTable(
        "densities-bernoulli",
        "Density models on MNIST, Bernoulli ([PML], Table 1)",
        (Column(ELBO, "nats_per_image", -1), MSE),
        (
            _density(
                "VAE",
                "vae",
                ELBO,
                {
                    "model": "BernoulliVAE",
                    "params.networks": "dense",
                    "params.hidden": 400,
                    "params.latent_dim": 2,
                },
            ),
            _density(
                "CVAE",
                "conv_vae",
                ELBO,
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
        "Density models on MNIST, Gaussian ([PML], Table 1)",
        (Column(LOG_LIKELIHOOD, "nats_per_image", -1), MSE),
        (
            _density("PPCA", "ppca", LOG_LIKELIHOOD, {"model": "densities:PPCA", "params.latent_dim": 2}),
            _density(
                "GMM",
                "mixture",
                LOG_LIKELIHOOD,
                {"model": "densities:GaussianMixture", "params.components": 10},
            ),
        ),
        "MNIST test images, pixels in [0, 1]",
        note=(
            "The paper's are of pixels in 0–255: +784·ln 255 nats, MSE / 255². Its GMM's is a sum over "
            "10 000 images, of the size that standardized pixels give, of a setting that it does not name. "
            "A Bernoulli's ELBO is a density of something else and has a table of its own."
        ),
    ),
)
