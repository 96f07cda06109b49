from .dataset import captions as captions
from .dataset import examples as examples
from .dataset import photos as photos
from .features import album as album
from .features import feature_examples as feature_examples
from .readers import ClassByColour as ClassByColour
from .readers import ClassByFeatures as ClassByFeatures
from .readers import ClassByWords as ClassByWords
