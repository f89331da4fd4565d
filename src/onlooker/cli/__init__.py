"""The command line, `onlooker caption | ask | chat | ...`; nothing heavy is imported before one runs."""

from onlooker.cli.app import COMMANDS, build_app, main

__all__ = ["COMMANDS", "build_app", "main"]
