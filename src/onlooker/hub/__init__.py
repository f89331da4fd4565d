"""Turns the name of a model (a folder or a hub id) into files on this machine.

A folder always wins over a name of the same spelling.  Names that begin with "onlooker/" are the checkpoints that come
with the package; no cache and no hub is asked for them.  For hub ids the cache is asked first: a file that is there is
used without asking the network whether a newer one exists, and the commit that the cache holds is the one that further
files are taken from, so that a folder is never mixed from two commits.  `onlooker fetch NAME` (here: `plan_fetch` and
`fetch`) moves the cache to the newest commit; after it nothing touches the network.
"""

from __future__ import annotations

from onlooker.hub.fetching import FetchPlan, fetch, needed_files, plan_fetch
from onlooker.hub.finding import HUB_OPTIONS, find_file, local_folder, split_hub_options

__all__ = [
    "HUB_OPTIONS",
    "FetchPlan",
    "fetch",
    "find_file",
    "local_folder",
    "needed_files",
    "plan_fetch",
    "split_hub_options",
]
