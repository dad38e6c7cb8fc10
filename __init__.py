"""EdgeLathe: distil, prune, quantize, prove, measure and gate vision networks for edge CPUs."""

__version__ = "0.1.0"
