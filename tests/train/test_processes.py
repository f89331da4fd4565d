"""Two processes learn what one with twice the batch learns: losses, gradients and batches are shared out rightly."""

import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from tests.compare import assert_close

CHILD = """
    import sys
    import torch
    from onlooker.train import losses
    from onlooker.train.loop import train
    from onlooker.train.pretraining import Blip2Pretraining
    from onlooker.train.stages import Blip2Generative
    from tests.train.small import blip2, language_batch, pairs_batch, retrieval_model
    from tests.train.test_loop import rows_of, settings, stack

    torch.set_num_threads(1)
    output, batch_size = sys.argv[1], int(sys.argv[2])
    # Chance is another in each process: no dropout, and no negatives drawn.
    losses.mine_negatives = lambda scores, positives: torch.full((len(scores),), -100)
    calm = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    torch.manual_seed(0)
    pairs = pairs_batch(8)
    pairs["attention_mask"][:] = 1  # as many words in each row: a mean of means is then the mean
    generative = Blip2Generative(blip2("opt", **calm))
    stages = {"pretraining": Blip2Pretraining(retrieval_model(**calm)), "blip2": generative}
    for name, stage in stages.items():
        data = pairs if name == "pretraining" else language_batch(stage.model, 8)
        options = settings(f"{output}/{name}", steps=3, batch_size=batch_size, learning_rate=1e-3)
        outcome = train(stage, rows_of(data), stack, options)
        torch.save({"weights": stage.state_dict(), "terms": outcome.terms}, f"{output}/{name}/end.pt")
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(output: Path, batch_size: int, rank: int = 0, world: int = 1, port: int = 0) -> subprocess.Popen:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    if world > 1:
        places = {
            "RANK": rank,
            "LOCAL_RANK": rank,
            "WORLD_SIZE": world,
            "MASTER_PORT": port,
            "MASTER_ADDR": "127.0.0.1",
        }
        environment |= {key: str(value) for key, value in places.items()}
    command = [sys.executable, "-c", textwrap.dedent(CHILD), str(output), str(batch_size)]
    root = Path(__file__).parents[2]
    return subprocess.Popen(command, cwd=root, env=environment, stderr=subprocess.PIPE, text=True)


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo")
def test_two_processes_learn_as_one_with_the_larger_batch(tmp_path):
    port = free_port()
    runs = [start(tmp_path / "one", 4), *(start(tmp_path / "two", 2, rank, 2, port) for rank in (0, 1))]
    for run in runs:
        _, errors = run.communicate(timeout=240)
        assert run.returncode == 0, errors
    for name in ("pretraining", "blip2"):
        one, two = (torch.load(tmp_path / runs / name / "end.pt", weights_only=True) for runs in ("one", "two"))
        for key, tensor in one["weights"].items():  # a wrong gradient moves a weight by 1e-3 in each of three steps
            assert_close(two["weights"][key], tensor, tolerance=1e-4)
        assert abs(one["terms"]["gradient"] - two["terms"]["gradient"]) < 1e-3 * one["terms"]["gradient"]
        saved = {each.name for each in (tmp_path / "two" / name / "checkpoint-00000003").iterdir()}
        assert {"random-0.pt", "random-1.pt", "state.pt"} <= saved
