"""The checkpoints of the pipeline's tests, for the commands too."""

from tests.pipeline.conftest import embedded, folders, load, no_hub

__all__ = ["embedded", "folders", "load", "no_hub"]
