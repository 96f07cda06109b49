import collections.abc
import os
import typing

from . import data as data
from . import metrics as metrics
from . import nets as nets
from . import views as views
from .batch import Batch as Batch
from .distributions import laplace as laplace
from .distributions import laplace_likelihood as laplace_likelihood
from .distributions import normal as normal
from .distributions import normal_likelihood as normal_likelihood
from .distributions import sentence_likelihood as sentence_likelihood
from .distributions import softmax_scale as softmax_scale
from .distributions import softplus_scale as softplus_scale
from .estimators import Estimator as Estimator
from .estimators import SubsampledEstimator as SubsampledEstimator
from .estimators import TotalCorrelationEstimator as TotalCorrelationEstimator
from .experiment import Experiment as Experiment
from .joint_posteriors import FusionRule as FusionRule
from .joint_posteriors import MixtureOfExperts as MixtureOfExperts
from .joint_posteriors import MixtureOfProducts as MixtureOfProducts
from .joint_posteriors import ProductOfExperts as ProductOfExperts
from .joint_posteriors import independent_sample as independent_sample
from .joint_posteriors import stratified_sample as stratified_sample
from .modality import Modality as Modality
from .modality import views_of as views_of
from .model import MultimodalVAE as MultimodalVAE
from .model import Prior as Prior
from .model import expert_dim as expert_dim
from .objectives import dreg as dreg
from .objectives import elbo as elbo
from .objectives import iwae as iwae
from .objectives import iwae_tight as iwae_tight
from .objectives import mixture_dreg as mixture_dreg
from .objectives import normalised_over as normalised_over
from .objectives import reparameterised as reparameterised
from .objectives import stl as stl
from .reports.evaluation import evaluate as evaluate
from .run import Run as Run
from .screening import Screening as Screening
from .serving.saved_model import export as export

__version__: str

def open_run(
    path: str | os.PathLike,
    build: collections.abc.Callable[[], MultimodalVAE] | None = None,
    tokenizers: collections.abc.Mapping[str, typing.Any] | None = None,
    data_dir: str | None = None,
    manual_dir: str | None = None,
) -> Run: ...
