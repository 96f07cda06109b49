from .photo_digits import mnist_photo as mnist_photo
from .photo_digits import polymnist as polymnist
from .svhn import mnist_svhn as mnist_svhn
