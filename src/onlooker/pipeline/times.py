"""Times as people write them: "0:10", "1:02:03.5" or seconds."""

from __future__ import annotations

import math
import re

_CLOCK = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:[.,]\d*)?)")


def parse_seconds(time: float | str | None) -> float | None:
    """Seconds of a time; None stays None.

    Raises:
        ValueError: no time, or one below 0.
    """
    if time is None:
        return None
    if isinstance(time, str):
        found = _CLOCK.fullmatch(time.strip())
        if not found:
            raise ValueError(f"{time!r} is not a time; give seconds, or minutes and seconds such as 1:30 or 0:02.5")
        hours, minutes, seconds = found.groups(default="0")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds.replace(",", "."))
    if not (math.isfinite(time) and time >= 0):
        raise ValueError(f"{time!r} is not a time; give seconds from 0 on")
    return float(time)


def clock(seconds: float, digits: int = 2) -> str:
    """Seconds as a clock shows them, "1:05.25"; "-" where the time is not known."""
    if math.isnan(seconds):
        return "-"
    ticks = round(seconds * 10**digits)
    whole, fraction = divmod(ticks, 10**digits)
    minutes, second = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{hours}:{minutes:02}:{second:02}" if hours else f"{minutes}:{second:02}"
    return f"{text}.{fraction:0{digits}}" if digits else text
