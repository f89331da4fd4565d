"""The loop: it goes on after a kill as if nothing had been, writes what it says, and stops at the first bad number."""

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from onlooker.errors import CheckpointError
from onlooker.train.average import MovingAverage
from onlooker.train.batches import Batches
from onlooker.train.logs import read_log
from onlooker.train.loop import train
from onlooker.train.nonfinite import NonFiniteLoss
from onlooker.train.settings import Settings
from onlooker.train.stages import Blip2Generative, VideoLlavaProjector
from onlooker.train.state import Writer, checkpoints
from tests.compare import assert_close
from tests.train.small import blip2, language_batch, pairs_batch, stage_of, video_llava


def rows_of(batch: dict) -> list[dict]:
    return [{name: x[i] for name, x in batch.items()} for i in range(len(next(iter(batch.values()))))]


def stack(rows: list[dict]) -> dict:
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def settings(output: Path, **options) -> Settings:
    return Settings(**({"output": output, "steps": 6, "batch_size": 2, "log_every": 1, "tensorboard": False} | options))


def opt_run(output: Path, rows: int = 6, resume: bool = False, on_step=None, **options):
    torch.manual_seed(1)
    stage = Blip2Generative(blip2("opt"))
    data = rows_of(language_batch(stage.model, rows))
    return stage, train(stage, data, stack, settings(output, **options), resume=resume, on_step=on_step)


# -- killed and resumed --------------------------------------------------------------------------------------------

CHILD = """
    import os, signal, sys
    import torch
    from onlooker.train.loop import train
    from onlooker.train import state
    from tests.train.small import pairs_batch, stage_of
    from tests.train.test_loop import rows_of, settings, stack

    torch.set_num_threads(1)
    output, kill_at, where = sys.argv[1], int(sys.argv[2]), sys.argv[3]

    def kill():
        os.kill(os.getpid(), signal.SIGKILL)

    def on_step(step, terms):
        if step == kill_at and where == "step":
            kill()

    if where == "write":  # in the middle of a checkpoint: the state is there, and not its name
        real = state.Writer.finish
        state.Writer.finish = lambda self, keep: kill() if self.step >= kill_at else real(self, keep)

    stage, _ = stage_of("pretraining")
    data = rows_of(pairs_batch(rows=7))
    options = settings(output, steps=12, save_every=3, accumulate=2, average=0.9, warmup=4, learning_rate=1e-2)
    train(stage, data, stack, options, resume=True, on_step=on_step)
    torch.save({"weights": stage.state_dict(), "random": torch.get_rng_state()}, output + "/end.pt")
"""


def child(output: Path, kill_at: int = -1, where: str = "never") -> int:
    command = [sys.executable, "-c", textwrap.dedent(CHILD), str(output), str(kill_at), where]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=root, env=environment)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


def test_a_killed_run_ends_with_the_same_bits_as_one_that_was_not(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert child(whole) == 0
    first = random.SystemRandom().randrange(1, 12)
    assert child(broken, first, "step") == -signal.SIGKILL
    assert child(broken, 12, "write") == -signal.SIGKILL  # the last one: the first kill may have come behind all others
    assert list(checkpoints(broken)) == [6, 9], f"killed at step {first}"
    assert child(broken) == 0
    expected, found = (torch.load(folder / "end.pt", weights_only=True) for folder in (whole, broken))
    assert torch.equal(expected["random"], found["random"])
    for name, tensor in expected["weights"].items():
        assert torch.equal(tensor, found["weights"][name]), f"{name}, killed at step {first}"
    for name in ("model.safetensors", "pretraining.safetensors"):  # the moving average
        assert (whole / "model" / name).read_bytes() == (broken / "model" / name).read_bytes()
    assert read_log(whole) == read_log(broken)
    assert [line["step"] for line in read_log(broken)] == list(range(1, 13))


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_run_may_stop_for_the_day_and_go_on(tmp_path, optimizer):
    stage, outcome = opt_run(tmp_path, max_minutes=0.0, optimizer=optimizer)
    assert (outcome.step, outcome.is_finished, outcome.model) == (1, False, None)
    resumed, outcome = opt_run(tmp_path, resume=True, optimizer=optimizer)
    assert outcome.is_finished and list(checkpoints(tmp_path)) == [1, 6]
    straight, _ = opt_run(tmp_path / "straight", optimizer=optimizer)
    for name, tensor in straight.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_what_would_mix_two_runs_is_refused(tmp_path):
    opt_run(tmp_path, steps=2)
    with pytest.raises(ValueError, match="holds checkpoints of an earlier run: resume it"):
        opt_run(tmp_path, steps=2)
    with pytest.raises(ValueError, match="learning_rate was 0.0001 and is 0.1"):
        opt_run(tmp_path, steps=2, learning_rate=0.1, resume=True)
    other = VideoLlavaProjector(video_llava())
    with pytest.raises(CheckpointError, match="other parameters learned"):
        train(other, [1], stack, settings(tmp_path, steps=2), resume=True)


def test_only_the_newest_checkpoints_are_kept_and_half_written_ones_do_not_count(tmp_path):
    opt_run(tmp_path, steps=5, save_every=1, keep=2)
    assert list(checkpoints(tmp_path)) == [4, 5]
    writer = Writer(tmp_path, 6)
    writer.begin()
    writer.write({"step": 6}, {})
    assert list(checkpoints(tmp_path)) == [4, 5]


# -- what it learns -------------------------------------------------------------------------------------------------


def test_the_model_at_the_end_loads_and_is_the_one_that_was_trained(tmp_path):
    stage, outcome = opt_run(tmp_path)
    loaded = type(stage.model).from_pretrained(outcome.model)
    batch = language_batch(stage.model)
    stage.eval()
    assert_close(stage(**batch)["loss"], loaded(**batch).loss)
    assert json.loads((outcome.model / "config.json").read_text())["model_type"] == "blip-2"


def test_accumulated_batches_update_as_one_large_batch(tmp_path):
    ends = []
    for name, options in {"large": {"batch_size": 4}, "parts": {"batch_size": 2, "accumulate": 2}}.items():
        torch.manual_seed(0)
        stage = Blip2Generative(blip2("opt", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0))
        data = rows_of(language_batch(stage.model, 8))
        train(stage, data, stack, settings(tmp_path / name, steps=3, learning_rate=1e-3, **options))
        ends.append(stage.model.query_tokens.detach())
    assert_close(*ends, tolerance=1e-6)


def test_the_average_follows_slowly_and_is_what_is_saved(tmp_path):
    stage, outcome = opt_run(tmp_path, steps=4, average=0.5, learning_rate=1e-2)
    saved = type(stage.model).from_pretrained(outcome.model).query_tokens
    assert not torch.equal(saved, stage.model.query_tokens)
    module = torch.nn.Linear(1, 1, bias=False)
    follower = MovingAverage(module, 0.5)
    start = module.weight.item()
    for step in (1, 2, 300):
        with torch.no_grad():
            module.weight += 1
        follower.update(module, step)
    # shares that stay: 1 / 11, 2 / 12, 0.5
    one = start / 11 + (start + 1) * 10 / 11
    two = one * 2 / 12 + (start + 2) * 10 / 12
    assert abs(follower.shadows["weight"].item() - (two + start + 3) / 2) < 1e-5


def test_half_precision_and_gradient_checkpointing_run(tmp_path):
    _, outcome = opt_run(tmp_path, steps=2, mixed_precision="bf16", gradient_checkpointing=True)
    assert outcome.is_finished
    _, outcome = opt_run(tmp_path / "again", steps=1)  # and another precision in the same process
    assert outcome.is_finished


# -- what it says ---------------------------------------------------------------------------------------------------


def test_every_term_is_logged_by_name(tmp_path):
    stage, batch = stage_of("pretraining")
    seen = []
    train(
        stage,
        rows_of(batch),
        stack,
        settings(tmp_path, steps=4, log_every=2, tensorboard=True),
        on_step=lambda step, terms: seen.append((step, terms["itm"])),
    )
    lines = read_log(tmp_path)
    assert [line["step"] for line in lines] == [2, 4]
    assert {"loss", "itc", "itm", "itg", "gradient", "learning_rate", "temperature"} <= set(lines[0])
    assert abs(lines[1]["itm"] - (seen[2][1] + seen[3][1]) / 2) < 1e-6
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_a_module_that_breaks_is_named(tmp_path):
    stage = Blip2Generative(blip2("opt"))
    data = rows_of(language_batch(stage.model, 4))

    def break_it(step, terms):
        if step == 2:
            layer = stage.model.language_model.model.decoder.layers[1].fc1
            layer.register_forward_hook(lambda module, inputs, output: output * float("inf"))

    with pytest.raises(NonFiniteLoss, match=r"step 3 is not finite .*layers\.1\.fc1 \(Linear\)"):
        train(stage, data, stack, settings(tmp_path), on_step=break_it)


def test_a_broken_weight_or_input_is_told_from_a_broken_module(tmp_path):
    stage = Blip2Generative(blip2("opt"))
    batch = language_batch(stage.model, 4)
    broken = rows_of(batch | {"pixel_values": torch.full_like(batch["pixel_values"], float("nan"))})
    with pytest.raises(NonFiniteLoss, match="the input pixel_values is not finite"):
        train(stage, broken, stack, settings(tmp_path / "input"))
    with torch.no_grad():
        stage.model.language_projection.bias[0] = float("nan")
    with pytest.raises(NonFiniteLoss, match="parameter model.language_projection.bias is not finite already"):
        train(stage, rows_of(batch), stack, settings(tmp_path / "weight"))


def test_a_gradient_that_breaks_is_named_before_it_reaches_the_weights(tmp_path):
    stage = Blip2Generative(blip2("opt"))
    stage.model.query_tokens.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(NonFiniteLoss, match="appeared first in model.query_tokens"):
        train(stage, rows_of(language_batch(stage.model, 4)), stack, settings(tmp_path))
    assert torch.isfinite(stage.model.query_tokens).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps is 0; it must be 1 or more"),
        ({"warmup": 9}, "between 0 and the 6 steps"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"mixed_precision": "half"}, "it may be 'no', 'bf16' or 'fp16'"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        settings(tmp_path, **options)


# -- batches --------------------------------------------------------------------------------------------------------


def take(batches: Batches, start: int, count: int) -> list[list[int]]:
    stream = batches.start(start)
    return [next(stream)["rows"] for _ in range(count)]


def listed(rows: list[int]) -> dict:
    return {"rows": rows}


def test_batches_from_the_middle_are_those_of_a_run_from_the_start():
    batches = Batches(list(range(10)), listed, batch_size=3, seed=4)
    all_batches = take(batches, 0, 10)
    assert sorted(sum(all_batches, [])) == sorted(list(range(10)) * 3)
    assert sorted(sum(all_batches, [])[:10]) == list(range(10))  # each once before any comes again
    for start in range(9):
        assert take(batches, start, 10 - start) == all_batches[start:]
    assert take(Batches(list(range(10)), listed, batch_size=3, seed=5), 0, 10) != all_batches


def test_processes_share_the_rows_of_one_process_with_the_larger_batch():
    whole = take(Batches(list(range(10)), listed, batch_size=4), 2, 5)
    shares = [take(Batches(list(range(10)), listed, batch_size=2, rank=rank, world=2), 2, 5) for rank in (0, 1)]
    assert [a + b for a, b in zip(*shares)] == whole


def test_workers_read_the_same_batches():
    rows = rows_of(pairs_batch(5))
    here, there = (Batches(rows, stack, batch_size=2, workers=n).start(1) for n in (0, 1))
    for _ in range(3):
        assert torch.equal(next(here)["pixel_values"], next(there)["pixel_values"])


def test_a_data_set_may_say_its_own_order_and_must_not_be_empty():
    class Mixture(list):
        def order(self, epoch, seed):
            return [epoch, epoch]

    assert take(Batches(Mixture(range(9)), listed, batch_size=2), 3, 2) == [[3, 3], [4, 4]]
    with pytest.raises(ValueError, match="the data set is empty"):
        Batches([], listed, batch_size=2)
