"""Onlooker: ask questions about images and videos."""

__version__ = "0.1.0"
