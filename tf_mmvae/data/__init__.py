"""Data sets: examples read by position, so that a batch depends on (seed, step) alone."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
