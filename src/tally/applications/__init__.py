"""Known image models: architectures whose layers, names and numbers are those of Keras's `applications`.

They come without trained weights; a file that Keras or this library wrote can be given as `weights`.
"""

from tally.applications import imagenet_utils, mobilenet_v2, resnet, resnet50, vgg16, xception
from tally.applications.mobilenet_v2 import MobileNetV2
from tally.applications.resnet import ResNet50
from tally.applications.vgg16 import VGG16
from tally.applications.xception import Xception

__all__ = [
    "VGG16",
    "MobileNetV2",
    "ResNet50",
    "Xception",
    "imagenet_utils",
    "mobilenet_v2",
    "resnet",
    "resnet50",
    "vgg16",
    "xception",
]
