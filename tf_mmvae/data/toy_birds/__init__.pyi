from .dataset import captions as captions
from .dataset import examples as examples
from .readers import read_pictures as read_pictures
from .sentences import read_captions as read_captions
