"""The front door: fast to import, sorted, complete, and open without transformers."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest

import onlooker


def run(code: str) -> str:
    """What a fresh interpreter prints, without the environment that the tests themselves run in."""
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


IMPORT_TIME = """
    import sys, time
    start = time.process_time()  # of the processor: the tests run beside others
    {statement}
    seconds = time.process_time() - start
    import json
    heavy = [name for name in ("torch", "transformers", "av", "huggingface_hub", "numpy") if name in sys.modules]
    print(json.dumps([seconds, heavy]))
"""


def import_time(statement: str) -> tuple[float, list[str]]:
    """Seconds (the best of three, other processes share this machine) and which heavy packages came along."""
    measured = [json.loads(run(IMPORT_TIME.format(statement=statement))) for _ in range(3)]
    return min(seconds for seconds, _ in measured), measured[0][1]


def test_import_onlooker_is_fast_and_brings_no_torch():
    seconds, heavy = import_time("import onlooker")
    assert heavy == [] and seconds < 0.3


def test_the_command_line_starts_fast_and_brings_no_torch():
    seconds, heavy = import_time("import onlooker.cli; onlooker.cli.build_app()")
    assert heavy == [] and seconds < 0.3


def test_help_of_every_command_brings_no_torch():
    printed = run(
        """
        import contextlib, io, sys
        from onlooker.cli import COMMANDS, main
        for name in ["", *COMMANDS]:
            with contextlib.redirect_stdout(io.StringIO()) as out:
                assert main([*filter(None, [name]), "--help"]) == 0, name
            assert "Usage" in out.getvalue()
        print([name for name in ("torch", "transformers", "huggingface_hub") if name in sys.modules])
        """
    )
    assert printed.strip() == "[]"


COLLECTIONS = """
    import gc
    {before}
    looked = []
    gc.callbacks.append(lambda phase, info: looked.append(info))
    import onlooker
    onlooker.Blip2Config, onlooker.Blip2Model
    many = len(looked) > 20
    print(many, gc.isenabled(), gc.get_freeze_count())
"""


def test_the_import_of_torch_is_not_searched_for_garbage_and_collection_goes_on():
    assert run(COLLECTIONS.format(before="")).split() == ["False", "True", "0"]


@pytest.mark.parametrize("before", ["gc.disable()", "gc.freeze()"])
def test_a_caller_that_steers_the_collection_of_garbage_keeps_it(before):
    _, enabled, frozen = run(COLLECTIONS.format(before=before)).split()
    assert (enabled == "False", frozen != "0") == (before == "gc.disable()", before == "gc.freeze()")


def test_public_names_are_sorted_and_unique():
    assert list(onlooker.__all__) == sorted(set(onlooker.__all__))


def test_every_public_name_imports():
    for name in onlooker.__all__:
        assert getattr(onlooker, name) is not None, name
    assert set(onlooker.__all__) <= set(dir(onlooker))


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(onlooker, "Blip3Model")


def test_the_package_runs_with_transformers_unimportable():
    printed = run(
        """
        import sys
        sys.modules["transformers"] = None  # any import of it is now an ImportError
        import onlooker
        names = [name for name in onlooker.__all__ if getattr(onlooker, name) is None]
        assert not names, names
        import torch
        vision = onlooker.Blip2VisionConfig(
            hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=28
        )
        qformer = onlooker.Blip2QFormerConfig(
            hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, encoder_hidden_size=16
        )
        text = onlooker.OPTConfig(
            vocab_size=40, hidden_size=16, num_hidden_layers=2, ffn_dim=32, num_attention_heads=2,
            max_position_embeddings=64, word_embed_proj_dim=16,
        )
        config = onlooker.Blip2Config.from_vision_qformer_text_configs(
            vision, qformer, text, num_query_tokens=3, image_token_index=39
        )
        model = onlooker.Blip2ForConditionalGeneration(config).eval()
        ids = model.generate(torch.zeros(1, 3, 28, 28), max_new_tokens=2, min_new_tokens=2)
        print(tuple(ids.shape))
        """
    )
    assert printed.strip() == "(1, 6)"
