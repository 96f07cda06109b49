import keras
import numpy as np
import pytest

from tests import oracle


@pytest.fixture(autouse=True)
def fixed_seeds():
  """Initial weights are the same in every run, whichever tests run."""
  keras.utils.set_random_seed(0)


@pytest.fixture(scope="session", params=[1, 2, 3])
def exact(request):
  """The exact model of one, two and three modalities."""
  return oracle.LinearGaussian(request.param)


@pytest.fixture(scope="session")
def pair():
  """The exact model of two modalities."""
  return oracle.LinearGaussian(2)


@pytest.fixture(scope="session")
def grid():
  """Latents [G, 1, 2] in a grid, and the area that each stands for."""
  side = np.linspace(-8, 8, 401)
  return np.stack(np.meshgrid(side, side), -1).reshape([-1, 1, 2]), (side[1] - side[0])**2
