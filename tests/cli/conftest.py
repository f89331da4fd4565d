"""The checkpoints of the pipeline's tests, for the commands too."""

from tests.pipeline.conftest import embedded, folders, load

__all__ = ["embedded", "folders", "load"]
