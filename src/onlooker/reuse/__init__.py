"""What was computed once and is needed again: a cache in memory, and on disk where a folder is given."""

from onlooker.reuse.cache import Cache, CacheStats
from onlooker.reuse.entry import Entry

__all__ = ["Cache", "CacheStats", "Entry"]
