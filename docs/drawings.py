"""The drawings of the documentation: `python docs/drawings.py`. The scores in them are made up."""

import math
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from scipy.special import ndtri

from analysis.charts.style import BLUE, GREEN, INK, ORANGE, VERMILION, canvas
from searchers.bayesopt import curve_gp, gp
from searchers.bayesopt.acquisition import expected_improvement
from searchers.scheduling.rule import PauseRule

FIGURES = Path(__file__).parent / "figures"
BOXES = (  # title, what it is, color of its rim; a row of boxes is a lane
    (("data set", "images", BLUE), ("model", "PyTorch", BLUE), ("trainable", "Ray Tune", BLUE)),
    (("sweep", "searcher + scheduler", GREEN), ("cluster", "Ray: one machine or many", GREEN)),
    (
        ("ledger", "on disk, first", ORANGE),
        ("MLflow", "follows", ORANGE),
        ("analysis", "winners, figures", ORANGE),
    ),
)
THEMES = {"light": ("#1f2328", "#ffffff"), "dark": ("#e6edf3", "#1b2027")}  # ink, paper of a box
WIDTH, LANE, BOX, HEIGHT = 720, 104, 190, 58


def data_flow(theme: str) -> str:
    """Return the data flow as SVG: images to models, models to trials, trials to a record and its answers."""
    ink, paper = THEMES[theme]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {LANE * len(BOXES)}" '
        'font-family="system-ui, sans-serif" text-anchor="middle" role="img" aria-label="data flow">',
        f'<marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        f'<path d="M0 0 8 4 0 8z" fill="{ink}"/></marker>',
    ]
    for row, lane in enumerate(BOXES):
        gap = (WIDTH - len(lane) * BOX) / (len(lane) + 1)
        y = LANE * row + (LANE - HEIGHT) / 2
        for column, (title, note, color) in enumerate(lane):
            x = gap + column * (BOX + gap)
            middle = x + BOX / 2
            parts += [
                f'<rect x="{x:.0f}" y="{y:.0f}" width="{BOX}" height="{HEIGHT}" rx="8" fill="{paper}" '
                f'stroke="{color}" stroke-width="2"/>',
                f'<text x="{middle:.0f}" y="{y + 25:.0f}" fill="{ink}" font-size="16" '
                f'font-weight="600">{escape(title)}</text>',
                f'<text x="{middle:.0f}" y="{y + 45:.0f}" fill="{ink}" font-size="13">{escape(note)}</text>',
            ]
            if column:
                parts.append(arrow(ink, x - gap + 4, y + HEIGHT / 2, x - 3, y + HEIGHT / 2))
        if row:  # from the last box above to the first one of this lane
            above = BOXES[row - 1]
            above_gap = (WIDTH - len(above) * BOX) / (len(above) + 1)
            parts.append(arrow(ink, WIDTH - above_gap - BOX / 2, y - LANE + HEIGHT + 3, gap + BOX / 2, y - 4))
    return "\n".join([*parts, "</svg>", ""])


def arrow(ink: str, x1: float, y1: float, x2: float, y2: float) -> str:
    """Return an arrow; one between two lanes turns twice."""
    bend = f"H{x2:.0f}" if y1 == y2 else f"V{(y1 + y2) / 2:.0f} H{x2:.0f} V{y2:.0f}"
    path = f'<path d="M{x1:.0f} {y1:.0f} {bend}" fill="none" stroke="{ink}" stroke-width="1.5" '
    return f'{path}marker-end="url(#a)"/>'


def acquisition() -> None:
    """Draw a posterior and its expected improvement, before and after one more value."""
    figure, axes = canvas(9.0, 4.6, 2, 2, sharex=True)
    u = np.linspace(0, 1, 400)
    X, y = np.array([0.05, 0.35, 0.62, 0.95]), np.array([0.9, -0.1, 0.4, 1.1])
    hyper = gp.Hyperparameters(np.array([0.22]), scale=1.0, noise=4e-3)
    for column in (0, 1):
        process = gp.GaussianProcess(X[:, None], y, np.zeros(len(y)), hyper, np.zeros(1))
        mean, variance = process.posterior(u[:, None])
        std = np.sqrt(variance)
        gain = expected_improvement(mean, variance, y.min())
        proposed = u[int(np.argmax(gain))]
        top, bottom = axes[0, column], axes[1, column]
        top.fill_between(u, mean - 2 * std, mean + 2 * std, color=BLUE, alpha=0.15, label="two deviations")
        top.plot(u, mean, color=BLUE, label="expected")
        top.plot(X, y, "o", color=INK, label="trained")
        top.set(title=f"after {len(y)} trials", ylabel="score (lower is better)", ylim=(-2.2, 2.4))
        bottom.fill_between(u, gain, color=ORANGE, alpha=0.4)
        bottom.set(xlabel="setting, on the unit interval", ylabel="expected improvement", ylim=(0, 0.45))
        for axis in (top, bottom):
            axis.axvline(proposed, color=VERMILION, linestyle=":", label="proposed next")
        X, y = np.append(X, proposed), np.append(y, -0.55)
    axes[0, 0].legend(loc="lower right", fontsize=8)
    figure.savefig(FIGURES / "acquisition.png", dpi=110)


def learning_curves() -> list[np.ndarray]:
    """Return made-up curves of eighteen epochs; what they end at differs, and how fast they get there."""
    rng = np.random.default_rng(4)
    epochs = np.arange(1, 19)
    ends, paces = rng.uniform(0.25, 0.8, 9), rng.uniform(2.5, 6.0, 9)
    return [
        e + 1.3 * np.exp(-epochs / p) + 0.012 * rng.standard_normal(18)
        for e, p in zip(ends, paces, strict=True)
    ]


def forecast() -> None:
    """Draw what the model of learning curves says of trials that were paused at the first rung."""
    figure, axis = canvas(6.4, 3.6)
    curves, epochs = learning_curves(), np.arange(1, 19)
    shown = [18, 6, 6, 18, 6, 6]
    rows = [(i, t, curves[i][t - 1]) for i, n in enumerate(shown) for t in (1, 2, 4, 6, 12, 18) if t <= n]
    run = np.array([i for i, _, _ in rows])
    x = np.array([0.1, 0.28, 0.45, 0.6, 0.78, 0.93])
    s, z = np.array([t / 18 for _, t, _ in rows]), np.array([value for *_, value in rows])
    standard = (z - z.mean()) / z.std()
    none = np.zeros(len(rows))
    data = (x[run][:, None], s, run, standard, none)
    process = curve_gp.CurveProcess(*data, curve_gp.fit(*data, np.zeros(1)), np.zeros(1))
    for i, n in enumerate(shown):
        color = (BLUE, ORANGE, GREEN, VERMILION, INK, "#CC79A7")[i]
        axis.plot(epochs[:n], curves[i][:n], color=color)
        if n == 18:
            continue
        ahead = np.arange(6, 19)
        U, progress = np.full((len(ahead), 1), x[i]), ahead / 18
        mean, variance = process.of_runs(U, progress, np.full(len(ahead), i))
        low, high = (z.mean() + z.std() * (mean + q * np.sqrt(variance)) for q in (-1, 1))
        axis.fill_between(ahead, low, high, color=color, alpha=0.2)
        axis.plot(18.3, curves[i][17], "x", color=color)
    axis.axvline(6, color=INK, linestyle=":")
    axis.text(6.2, 1.45, "first rung", color=INK)
    axis.set(xlabel="epoch", ylabel="score (lower is better)")
    figure.savefig(FIGURES / "forecast.png", dpi=110)


def rungs() -> None:
    """Draw which of nine trials the rule pauses, and which one it would take up again."""
    figure, axis = canvas(6.4, 3.6)
    rule, curves = PauseRule(18, 2), learning_curves()
    for i, curve in enumerate(curves):
        rule.begin(str(i))
        for epoch, value in enumerate(curve, 1):
            if rule.report(str(i), epoch, float(value)) != "continue":
                break
        ended = epoch == 18
        axis.plot(range(1, epoch + 1), curve[:epoch], color=BLUE if ended else ORANGE)
        axis.plot(epoch, curve[epoch - 1], "o" if ended else "v", color=BLUE if ended else ORANGE)
    if next_one := rule.promotable():
        at = max(rule.trials[next_one].values)
        axis.plot(at, rule.trials[next_one].values[at], "v", color=VERMILION, markersize=10)
    for rung in rule.rungs[:-1]:
        axis.axvline(rung, color=INK, linestyle=":")
        axis.text(rung + 0.15, 1.7, f"rung {rung}", color=INK)
    axis.set(xlabel="epoch", ylabel="score (lower is better)")
    figure.savefig(FIGURES / "rungs.png", dpi=110)


def warp() -> None:
    """Draw how values are standardized: half by themselves, half by the normal score of their rank."""
    figure, axis = canvas(4.6, 3.2)
    y = np.sort(np.concatenate([np.linspace(0.2, 0.5, 9), [0.9, 1.5, 4.0]]))
    score = ndtri((np.arange(len(y)) + 0.5) / len(y))
    value = (y - y.mean()) / y.std()
    for z, color, name in (
        (value, INK, "value"),
        (score, ORANGE, "rank"),
        ((value + score) / 2, BLUE, "half of each"),
    ):
        axis.plot(y, z, "o-", color=color, label=name, markersize=4)
    axis.set(xlabel="score as reported", ylabel="standardized", ylim=(-2, math.ceil(value.max())))
    axis.legend(fontsize=8)
    figure.savefig(FIGURES / "warp.png", dpi=110)


def main() -> None:
    """Draw all."""
    FIGURES.mkdir(exist_ok=True)
    for theme in THEMES:
        (FIGURES / f"data_flow_{theme}.svg").write_text(data_flow(theme))
    for draw in (acquisition, forecast, rungs, warp):
        draw()


if __name__ == "__main__":
    main()
