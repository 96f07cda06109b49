"""Toy birds: small pictures and captions, drawn and written by this package."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
