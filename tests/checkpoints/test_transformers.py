"""The checkpoints in transformers: nothing missing, nothing left over, the same tokens."""

import pytest

from onlooker.checkpoints import FOLDER
from recipes.evaluate import NAMES
from recipes.evaluation.counting import Share
from recipes.evaluation.parity import same_as_transformers


@pytest.mark.parametrize("name", NAMES)
def test_transformers_loads_a_checkpoint_and_gives_the_same(name):
    found = same_as_transformers(FOLDER / name, 8)
    shares = {what: share for what, share in found.items() if isinstance(share, Share)}
    assert len(shares) == 3 and all(share.right == share.n > 0 for share in shares.values()), found
