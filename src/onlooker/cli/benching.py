"""`onlooker bench`: this package against the installed transformers, in one run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onlooker.cli.options import AsJson, Debug, Quiet
from onlooker.cli.show import gigabytes, line, note, record

if TYPE_CHECKING:
    from onlooker.bench.contest import Outcome
    from onlooker.bench.run import Report


def bench(
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="NAME", help="A row or a workload; again for more.")
    ] = None,
    show_list: Annotated[bool, typer.Option("--list", help="Print the rows with their bars, and stop.")] = False,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Measured rounds, in which all take turns.")] = 5,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Of torch.")] = 1,
    depth: Annotated[
        int | None,
        typer.Option(
            "--depth", min=1, max=32, help="Layers of the language models, of 32, the rest in proportion; 2 or 4."
        ),
    ] = None,
    tiny: Annotated[bool, typer.Option("--tiny", help="Toy widths, in seconds: to see that all of it runs.")] = False,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write all that was found as JSON.")] = None,
    picture: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw the ratios and their bars (.png, .svg).")
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Measure this package against transformers: the same random weights of published widths, in turns.

    A ratio is their time over ours. Results are compared first, and a row with other tokens than theirs fails; rounded
    weights tell their agreement instead. The machine's own limits are measured in the same run.
    """
    from onlooker.bench.table import WORKLOADS, chosen

    try:
        wanted = chosen(only or [])
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if show_list:
        for workload in WORKLOADS:
            for row in workload.rows:
                if row.name in wanted.get(workload, ()):
                    line(f"{row.name:22} {workload.name:13} {row.bar:6g}x  {row.what}")
        return
    from onlooker.bench.plot import check_can_plot, plot
    from onlooker.bench.run import run
    from onlooker.bench.settings import Settings

    if picture is not None:
        check_can_plot()
    report = run(
        only or [],
        Settings(rounds=rounds, threads=threads, is_tiny=tiny),
        depth,
        out,
        begun=lambda report: None if as_json else _head(report),
        found=lambda outcome: record(outcome.to_dict()) if as_json else _row(outcome),
    )
    if picture is not None:
        plot(report.to_dict(), picture)
    reached = sum(outcome.is_reached for outcome in report.outcomes)
    note(f"{reached} of {len(report.outcomes)} bars reached", quiet)
    if report.failed:
        note(f"error: other results than transformers: {', '.join(report.failed)}")
        raise typer.Exit(1)


def _head(report: Report) -> None:
    best = [f"memory {report.limits['memory'] / 1e9:.1f} GB/s"]
    best += [f"{name} {rate / 1e9:.0f} G/s" for name, rate in report.limits.items() if name != "memory"]
    line(", ".join(f"{name} {version}" for name, version in report.versions.items()))
    kernel = "yes" if report.has_native else "no"
    line(f"native kernel: {kernel}; limits of {report.threads} thread(s): {', '.join(best)}")
    line(f"{'row':22} {'ratio':>7} {'low..high':>15} {'bar':>6}")


def _row(outcome: Outcome) -> None:
    from onlooker.bench.table import ROWS

    bar, ratio = ROWS[outcome.row].bar, outcome.ratio
    state = "FAILED" if not outcome.verdict.agrees else "reached" if outcome.is_reached else "missed"
    spread = f"{ratio.low:.2f}..{ratio.high:.2f}"
    line(f"{outcome.row:22} {ratio.median:7.2f} {spread:>15} {bar:6g}  {state:8} {outcome.verdict.text}")
    times = ", ".join(f"{which} {_seconds(value)}" for which, value in outcome.seconds.items())
    line(f"    {outcome.shape}")
    memory = " / ".join("?" if each is None else gigabytes(each) for each in outcome.memory.values())
    weights = " / ".join(gigabytes(each) for each in outcome.weights.values() if each is not None)
    rates = " / ".join(f"{each / 1e9:.1f} GB/s" for each in outcome.bandwidth.values())
    more = [f"working memory {memory}", *([f"weights {weights}"] if weights else []), *([rates] if rates else [])]
    line(f"    {times}; {', '.join(more)}")


def _seconds(value: float) -> str:
    return f"{value:.3g} s" if value >= 1 else f"{1000 * value:.3g} ms"
