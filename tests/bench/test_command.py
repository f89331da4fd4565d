"""`onlooker bench` as a user runs it, at toy widths."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from importlib import import_module

import pytest
import torch

import onlooker.bench.peer
from onlooker.bench.settings import Settings
from onlooker.bench.table import ROWS, WORKLOADS, chosen
from onlooker.cli import main

BARS = {
    "import": 3,
    "load": 3,
    "preprocess": 8,
    "qformer-bf16": 1.7,
    "qformer-bf16-frozen": 1.7,
    "qformer-int8-frozen": 2.3,
    "qformer-int8": 2.3,
    "vit-g-bf16": 1,
    "vit-g-fp32": 1,
    "prefill-bf16": 1,
    "prefill-fp32": 1,
    "decode-bf16": 1.5,
    "decode-int8": 2.2,
    "decode-int4": 3,
    "decode-bf16-native": 1.7,
    "decode-int8-native": 3.5,
    "decode-int4-native": 5,
    "beams-first-token": 5,
    "instructblip-bf16": 1.4,
    "instructblip-int8": 2.3,
    "instructblip-int4": 2.8,
    "video-llava-bf16": 1.15,
    "video-llava-int8": 1.5,
    "next-question": 50,
    "ten-questions-bf16": 3,
    "ten-questions-int8": 6,
    "requests-padded": 1.7,
    "requests-one-by-one": 6,
    "tiny-opt": 2,
    "tiny-t5": 2,
    "tiny-llama": 2,
}
LIMITS = {"memory", "float32", "bfloat16", "int8"}


@pytest.fixture(autouse=True)
def without_torchvision(monkeypatch):
    """Other tests compare with a transformers that has none; what it brings must not stay behind in this process."""
    monkeypatch.setattr(onlooker.bench.peer, "_find_torchvision", lambda: None)


def run(*arguments, capsys):
    code = main(["bench", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_list_names_every_row_of_the_bar_table(capsys):
    code, out, _ = run("--list", capsys=capsys)
    assert code == 0
    assert {line.split()[0]: float(line.split()[2][:-1]) for line in out.splitlines()} == BARS
    _, out, _ = run("--list", "--only", "tiny", "--only", "load", capsys=capsys)
    assert [line.split()[0] for line in out.splitlines()] == ["load", "tiny-opt", "tiny-t5", "tiny-llama"]


def test_a_list_needs_neither_torch_nor_transformers():
    code = "import sys; from onlooker.cli import main; main(['bench', '--list'])\n"
    code += "print({'torch', 'transformers'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def test_unknown_names_are_told(capsys):
    code, _, err = run("--only", "nothing", capsys=capsys)
    assert code == 2 and "'nothing'" in err and "--list" in err


@pytest.mark.slow
def test_every_workload_runs_at_toy_widths(capsys, tmp_path):
    names = [workload.name for workload in WORKLOADS if workload.name != "starting"]
    only = [argument for name in names for argument in ("--only", name)]
    code, out, err = run("--tiny", "--rounds", 2, *only, "--out", tmp_path / "bench.json", capsys=capsys)
    assert code == 0, out + err
    report = json.loads((tmp_path / "bench.json").read_text())
    assert {"torch", "transformers", "onlooker", "python", "processor"} <= set(report["versions"])
    assert set(report["limits"]) == LIMITS and all(rate > 0 for rate in report["limits"].values())
    assert (report["rounds"], report["threads"], report["is_tiny"], report["failed"]) == (2, 1, True, [])
    assert {row["row"] for row in report["rows"]} == set(BARS) - {"import", "load"}
    for row in report["rows"]:
        ratio = row["ratio"]
        assert 0 < ratio["low"] <= ratio["median"] <= ratio["high"]
        assert row["bar"] == BARS[row["row"]] and row["is_reached"] == (ratio["median"] >= row["bar"])
        assert row["agrees"] and row["shape"]
        assert set(row["seconds"]) == set(row["memory"]) == {"onlooker", "transformers"}
        assert row["is_lossless"] or row["error"] is not None or row["agreement"] is not None
        assert row["row"] in out and row["text"] in out


@pytest.mark.slow
def test_processes_are_measured_from_their_start(capsys):
    code, out, err = run("--tiny", "--rounds", 1, "--only", "load", "--json", "--quiet", capsys=capsys)
    assert code == 0 and err == ""
    row = json.loads(out)
    assert row["row"] == "load" and row["agrees"] and row["ratio"]["median"] > 1
    assert 50e6 < row["memory"]["onlooker"] < row["memory"]["transformers"]


@pytest.mark.slow
@pytest.mark.parametrize("workload", ["questions", "requests", "decode"])
def test_the_scores_of_a_side_are_those_it_chose_by(workload):
    contests = import_module(f"onlooker.bench.workloads.{workload}").contests
    rows = frozenset({"next-question", "ten-questions-bf16", "requests-one-by-one", "decode-bf16-native"})
    for contest in contests(Settings(is_tiny=True, rows=rows)):
        for side in {side for pair in contest.rows.values() for side in pair}:
            for row, ids in enumerate(side.work()):
                scores = side.scores(row, ids)
                assert torch.equal(scores[range(len(ids)), ids], scores.amax(-1))
                if side.exact is not None:
                    exact = side.exact(row, ids)
                    assert 1e-4 < (scores - exact).norm() / exact.norm() < 0.01


@contextmanager
def _damaged(model_class, *arguments):
    """The two models, ours with another head."""
    with onlooker.bench.peer.both(model_class, *arguments) as peers:
        for model in peers.ours.values():
            head = model.get_output_embeddings()
            head.weight.data = -head.weight.data
        yield peers


def test_a_speed_up_with_other_tokens_fails(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("onlooker.bench.workloads.decode.both", _damaged)
    names = ("decode-bf16-native", "decode-int8-native")
    only = [argument for name in names for argument in ("--only", name)]
    code, out, err = run("--tiny", "--rounds", 1, *only, "--out", tmp_path / "bench.json", capsys=capsys)
    assert code == 1 and "other results than transformers: decode-bf16-native" in err
    assert "FAILED" in out and "OTHER TOKENS" in out
    report = json.loads((tmp_path / "bench.json").read_text())
    assert report["failed"] == ["decode-bf16-native"]
    bf16, int8 = report["rows"]
    assert not bf16["agrees"] and not bf16["is_reached"]
    assert int8["agrees"] and int8["agreement"] < 0.5  # rounded weights tell it, and do not fail


def _roughened(share):
    """What gives the two models, every weight of our head moved by about such a share of itself."""

    @contextmanager
    def made(*arguments):
        with onlooker.bench.peer.both(*arguments) as peers:
            weight = peers.ours[""].get_output_embeddings().weight.data
            noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
            weight.copy_(weight.float() * (1 + share * noise))
            yield peers

    return made


@pytest.mark.parametrize(("share", "agrees"), [(2**-9, True), (0.03, False)])
def test_rounding_is_told_from_an_error(share, agrees, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("onlooker.bench.workloads.requests.both", _roughened(share))
    out = tmp_path / "bench.json"
    code, *_ = run("--tiny", "--rounds", 1, "--only", "requests-one-by-one", "--out", out, capsys=capsys)
    (row,) = json.loads(out.read_text())["rows"]
    assert code == 1 - agrees and row["agrees"] is agrees
    assert row["text"].startswith("equal" if agrees else "OTHER TOKENS")


def test_without_transformers_it_says_what_to_type(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    code, _, err = run("--tiny", capsys=capsys)
    assert code == 1 and "pip install 'onlooker[bench]'" in err and "transformers" in err


def test_without_matplotlib_nothing_is_begun(capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, out, err = run("--tiny", "--plot", tmp_path / "bench.png", capsys=capsys)
    assert code == 1 and "pip install 'onlooker[bench]'" in err and "matplotlib" in err and not out


def test_a_plot_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    from PIL import Image

    from onlooker.bench.plot import plot

    states = [(5.0, True), (1.2, True), (3.0, False)]
    rows = [
        {
            "row": name,
            "bar": 2.0,
            "ratio": {"median": median, "low": 0.9 * median, "high": 1.2 * median},
            "agrees": agrees,
            "is_reached": agrees and median >= 2,
        }
        for name, (median, agrees) in zip("abc", states)
    ]
    plot({"rows": rows, "versions": {"transformers": "5"}, "threads": 1}, tmp_path / "bench.png")
    with Image.open(tmp_path / "bench.png") as picture:
        assert picture.size[0] > 500


def test_rows_are_chosen_by_their_names_and_by_those_of_workloads():
    assert sum(map(len, chosen([]).values())) == len(ROWS) == len(BARS)
    found = chosen(["decode-int4", "questions"])
    assert {workload.name: set(rows) for workload, rows in found.items()} == {
        "decode": {"decode-int4"},
        "questions": {"next-question", "ten-questions-bf16", "ten-questions-int8"},
    }
    with pytest.raises(ValueError, match="no row or workload 'decod'"):
        chosen(["decod"])
