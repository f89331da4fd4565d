"""What was measured as tables in Markdown, for docs/checkpoints.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Shares = Mapping[str, Any]  # a `Share` as the JSON holds it


def percent(share: Shares) -> str:
    """ "93.5 (91.2 to 95.3)": the share and its 95 % interval in percent."""
    return f"{100 * share['share']:.1f} ({100 * share['low']:.1f} to {100 * share['high']:.1f})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def as_markdown(results: Mapping[str, Any]) -> str:
    """All checks that have been made, each under a heading; numbers are percent with their 95 % interval."""
    parts = []
    for name, (title, write) in _WRITERS.items():
        if name in results:
            parts += [f"### {title}", write(results[name])]
    return "\n\n".join(parts) + "\n"


def _questions(found: Mapping[str, Any]) -> str:
    head = ["checkpoint", "data", "n", "right", "blank clip", "majority", "question only", "above the best of these"]
    rows, kinds, without = [], [], []
    for name, result in found.items():
        for data, each in result["sets"].items():
            guesses = [each[guess] for guess in ("blank clip", "majority", "question only")]
            above = 100 * (each["all"]["share"] - max(guess["share"] for guess in guesses))
            shares = [f"{100 * guess['share']:.1f}" for guess in guesses]
            rows.append([name, data, each["all"]["n"], percent(each["all"]), *shares, f"{above:.1f} points"])
            kinds.append([name, data, *(f"{100 * share['share']:.0f}" for share in each["kinds"].values())])
        for kind, each in result["without time"].items():
            taken = [percent(each[way]) for way in ("as it is", "one_frame", "shuffled")]
            without.append([name, kind, each["as it is"]["n"], *taken])
    names = list(next(iter(next(iter(found.values()))["sets"].values()))["kinds"])
    per_kind = next(iter(next(iter(found.values()))["sets"].values()))["kinds"][names[0]]["n"]
    without_head = ["checkpoint", "question", "n", "whole clip", "one random frame", "frames shuffled"]
    return "\n\n".join(
        [
            table(head, rows),
            f"By kind of question, {per_kind} each:",
            table(["checkpoint", "data", *names], kinds),
            "Without time. Chance is 50 for order; for direction it is 25 with one frame and 50 with shuffled ones, "
            "which still show the axis:",
            table(without_head, without),
        ]
    )


def _files(found: Mapping[str, Any]) -> str:
    head = ["checkpoint", "n", "frames", "files of 224 pixels", "rendered at 56 pixels"]
    rows = [
        [name, each["all"]["n"], each["frames"], percent(each["all"]), percent(each["rendered"])]
        for name, each in found.items()
    ]
    return table(head, rows)


def _captions(found: Mapping[str, Any]) -> str:
    rows = [
        [name, data, each["exact"]["n"], percent(each["exact"]), percent(each["all facts"])]
        for name, result in found.items()
        for data, each in result.items()
    ]
    return table(["checkpoint", "data", "n", "exact", "all facts right"], rows)


def _retrieval(found: Mapping[str, Any]) -> str:
    rows = []
    for name, result in found.items():
        for way, each in result.items():
            rows += [[name, way.split(",")[0], ranking, share["n"], percent(share)] for ranking, share in each.items()]
    return table(["checkpoint", "to find", "ranked by", "among", "recall@1"], rows)


def _long(found: Mapping[str, Any]) -> str:
    rows = [[way, share["n"], percent(share)] for way, share in found["found"].items()]
    note = f"{found['frames']} frames of the clip, or of each window"
    if "seconds of a window" in found:
        note += f" of {found['seconds of a window']:g} seconds"
    return f"{note}:\n\n" + table(["way", "n", "found"], rows)


def _same(found: Mapping[str, Any]) -> str:
    rows = []
    for name, result in found.items():
        for what, share in result.items():
            if isinstance(share, Mapping):
                rows.append([name, what, f"{share['right']} of {share['n']}"])
    version = next(iter(found.values()))["transformers"]
    return table(["checkpoint", f"the same as transformers {version}", "equal"], rows)


def _ablations(found: Mapping[str, Any]) -> str:
    rows = []
    for what, runs in found.items():
        (best, one), (less, other) = runs.items()
        gap = 100 * (one["share"] - other["share"])
        rows.append([what, one["n"], f"{best}: {percent(one)}", f"{less}: {percent(other)}", f"{gap:.1f} points"])
    return table(["unseen stills", "n", "with", "without", "gap"], rows)


_WRITERS: dict[str, tuple[str, Callable[[Mapping[str, Any]], str]]] = {
    "qa": ("Questions", _questions),
    "files": ("Questions about H.264 files", _files),
    "captions": ("Captions of stills", _captions),
    "retrieval": ("Retrieval of stills", _retrieval),
    "long": ("Three seconds of ten minutes", _long),
    "oracle": ("The same in transformers", _same),
    "ablations": ("With and without", _ablations),
}
