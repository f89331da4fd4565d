"""Takes the spaces out that word-piece vocabularies leave in front of punctuation and English contractions."""

from __future__ import annotations

# In this order: each replacement sees the result of those before it.
_REPLACEMENTS = (
    *((" .", "."), (" ?", "?"), (" !", "!"), (" ,", ",")),
    *((" ' ", "'"), (" n't", "n't"), (" 'm", "'m"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re")),
)


def clean_up(text: str) -> str:
    """Remove the space before . ? ! , n't 'm 's 've 're and the spaces around a lone apostrophe."""
    for found, kept in _REPLACEMENTS:
        text = text.replace(found, kept)
    return text


def safe_length(text: str) -> int:
    """How many characters of `text` can be cleaned up now, whatever follows them.

    Every replacement begins with a space and only the lone apostrophe reaches over a second one, so the text may be
    cut in front of its last space, unless that space ends a lone apostrophe.
    """
    cut = text.rfind(" ")
    while cut > 0 and text[max(0, cut - 2) : cut] == " '":
        cut = text.rfind(" ", 0, cut)
    return max(cut, 0)
