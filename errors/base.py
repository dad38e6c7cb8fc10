"""The one exception that bad input raises."""

from __future__ import annotations


class EdgeLatheError(Exception):
    """Bad input or an impossible request; the command line prints it as one sentence and exits with 2."""

    __module__ = "edgelathe.errors"  # as users import it, and as tracebacks name it
