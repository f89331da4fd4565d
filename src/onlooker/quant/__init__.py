"""Passes over a built model that store its linear layers in fewer bits."""
