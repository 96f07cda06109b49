from .columns import Picture as Picture
from .columns import Text as Text
from .columns import Vector as Vector
from .dataset import Source as Source
from .dataset import examples as examples
from .dataset import texts as texts
