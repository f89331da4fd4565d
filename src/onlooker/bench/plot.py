"""Draws a report: a bar for each row, and a mark where it should reach."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from onlooker.errors import MissingExtraError

_REACHED, _MISSED, _OTHER = "#2f7d4f", "#c7902b", "#b3382c"


def check_can_plot() -> None:
    """
    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingExtraError("matplotlib", "bench", "--plot draws with it.")


def plot(report: dict[str, Any], path: Path) -> None:
    """Write a picture of a report's rows, as `Report.to_dict` gives them.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    check_can_plot()
    from matplotlib.figure import Figure

    rows = report["rows"]
    figure = Figure(figsize=(8, 1.2 + 0.3 * len(rows)), layout="constrained")
    axes: Any = figure.subplots()
    for place, row in enumerate(rows):
        ratio = row["ratio"]
        color = _OTHER if not row["agrees"] else _REACHED if row["is_reached"] else _MISSED
        spread = [[ratio["median"] - ratio["low"]], [ratio["high"] - ratio["median"]]]
        axes.barh(place, ratio["median"], color=color, xerr=spread, ecolor="#444444", height=0.6)
        axes.plot([row["bar"]] * 2, [place - 0.42, place + 0.42], color="black", linewidth=2)
        axes.annotate(f" {ratio['median']:.2f}", (max(ratio["high"], row["bar"]), place), va="center", fontsize=8)
    axes.set_yticks(range(len(rows)), [row["row"] for row in rows])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.margins(y=0.01)
    axes.set_xlim(right=1.4 * axes.get_xlim()[1])  # room for the last number
    axes.axvline(1, color="#888888", linewidth=0.8)
    told = report["versions"]
    axes.set_xlabel(
        f"times as fast as transformers {told['transformers']} (black: the bar), {report['threads']} thread(s)"
    )
    figure.savefig(path, dpi=120)
