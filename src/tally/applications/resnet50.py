"""ResNet-50 under the module name that scripts import it from."""

from tally.applications.resnet import ResNet50, decode_predictions, preprocess_input

__all__ = ["ResNet50", "decode_predictions", "preprocess_input"]
