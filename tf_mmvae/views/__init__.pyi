from .latents import Latents as Latents
from .panels import Panel as Panel
from .viewers import NearestPictures as NearestPictures
