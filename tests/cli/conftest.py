"""The checkpoints of the pipeline's tests, for the commands too."""

from tests.pipeline.conftest import folders, load

__all__ = ["folders", "load"]
