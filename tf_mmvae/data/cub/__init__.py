"""Caltech-UCSD Birds with captions, as photographs or as features of them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
