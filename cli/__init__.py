"""The command line; `main` is its entry point."""

from __future__ import annotations

from .start import app, main

__all__ = ["app", "main"]
