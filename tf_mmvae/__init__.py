"""Variational mixture-of-experts autoencoders for several modalities (Shi et al. 2019).

  import tf_mmvae as mm

What is named here is loaded when it is first asked for.
"""

import lazy_loader

__version__ = "0.2.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
