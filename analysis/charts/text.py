"""Numbers, names and symbols as people read them, on any terminal and in any file's name."""

import ast
import codecs
import io
import re
import sys
from typing import Any

from rich.console import Console

PAGE_WIDTH = 160
NAME_LENGTH = 100  # characters of a file's name
SYMBOLS = {
    "beta": "β",
    "beta_norm": "β_norm",
    "learning_rate": "learning rate",
    "latent_dim": "latent dimensions",
    "hidden": "hidden units",
    "free": "free positions",
    "disentanglement/mig": "mutual information gap",
    "validation_loss_last3": "validation loss (mean of 3 epochs)",
    "images_per_second": "images / s",
    "reconstruction_mse": "reconstruction MSE (pixel in [0, 1])",
    "elbo": "ELBO (nats)",
    "kl": "KL (nats)",
    "nats_per_image": "log-likelihood (nats an image)",
}
# What a terminal that has no such letter shows instead.
SPELLED_OUT = {
    "β": "beta",
    "σ": "sigma",
    "ρ": "rho",
    "±": "+/-",
    "–": "-",
    "−": "-",
    "×": "x",
    "²": "^2",
    "·": "*",
    "…": "...",
    "é": "e",
    "←": "<-",
    "→": "->",
}
FLAGS = {  # of `trainables.evaluation.diagnostics`
    "collapsed": "all samples alike",
    "dead_latent_space": "no latent unit in use",
    "discriminator_wins": "discriminator always right",
}


def flag_words(flags: str) -> str:
    """Return a trial's health flags in words; a reason why it diverged is a sentence already."""
    return ", ".join(FLAGS.get(flag, flag) for flag in flags.split(",") if flag)


def number(value: Any) -> str:
    """Format a setting or a score; NaN is a dash."""
    if isinstance(value, float):
        return "–" if value != value else f"{value:.4g}"
    return str(value)


def with_deviation(value: float, std: float) -> str:
    """Format a score with its deviation, if that is known."""
    return number(float(value)) + ("" if std != std else f" ± {std:.2g}")


def percent(probability: float) -> str:
    """Format a probability estimated from draws: 0 % and 100 % are never shown."""
    if probability != probability:
        return "–"
    return "< 1 %" if probability < 0.01 else "> 99 %" if probability > 0.99 else f"{100 * probability:.0f} %"


def duration(seconds: float) -> str:
    """Format seconds as a person says them."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def megabytes(count: float) -> str:
    """Format a number of bytes."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def value_of(text: str) -> Any:
    """Return the number, truth value or None that a text stands for; the text itself where it is none."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def file_name(name: str) -> str:
    """Return a name that stays one file in the folder where it is put, whatever MLflow calls a run."""
    plain = re.sub(r"[^\w.+ -]", "_", name.encode("utf-8", "replace").decode())
    return plain.strip().lstrip(".-")[:NAME_LENGTH].encode()[: 2 * NAME_LENGTH].decode(errors="ignore") or "_"


def console(*, stderr: bool = False) -> Console:
    """Return the terminal, or a wide enough page where the output goes to a file.

    Users' text is printed as it is: neither markup nor emoji codes in it mean anything.
    """
    plain: dict[str, Any] = {"stderr": stderr, "markup": False, "emoji": False, "highlight": False}
    terminal = Console(**plain)
    return terminal if terminal.is_terminal else Console(width=PAGE_WIDTH, **plain)


def accept_any_text() -> None:
    """Let stdout and stderr spell out what their encoding lacks, instead of ending the program.

    This is for ASCII and Latin-1 terminals, and for names that are not UTF-8.
    """
    codecs.register_error("spell_out", _spell_out)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="spell_out")


def _spell_out(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(SPELLED_OUT.get(letter, "?") for letter in text), error.end
