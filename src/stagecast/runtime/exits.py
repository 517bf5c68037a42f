"""How commands end that cannot do their work."""

from __future__ import annotations

import click

INTERRUPTED = 130  # what shells say of a program that Ctrl-C ended


class Unusable(click.ClickException):
    """The command could not do its work: no server, or nothing of what was asked for."""

    exit_code = 2
