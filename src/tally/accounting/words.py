"""What kinds of layers do, said in a sentence: why a layer has no weights, and what it does instead."""

_INSTEAD = {
    "AlphaDropout": "replaces values at random while training, and keeps their mean and variance",
    "Dropout": "sets values to zero at random while training and passes them on unchanged in use",
    "GaussianDropout": "multiplies values by random noise while training and passes them on unchanged in use",
    "GaussianNoise": "adds random noise while training and passes values on unchanged in use",
    "SpatialDropout": "sets whole channels to zero at random while training",
    "MaxPooling": "takes the largest value in each window",
    "AveragePooling": "takes the mean of the values in each window",
    "AdaptiveAveragePooling": "takes means over as many windows as the output has places",
    "AdaptiveMaxPooling": "takes the largest values of as many windows as the output has places",
    "GlobalAveragePooling": "takes the mean of each channel over all positions",
    "GlobalMaxPooling": "takes the largest value of each channel over all positions",
    "Flatten": "puts the same values in one row",
    "Reshape": "arranges the same values in another shape",
    "Permute": "exchanges axes",
    "RepeatVector": "repeats the same values",
    "UpSampling": "repeats or interpolates values to enlarge its input",
    "ZeroPadding": "puts zeros around its input",
    "Cropping": "cuts away the border of its input",
    "Activation": "applies a fixed function to each value",
    "ReLU": "sets negative values to zero",
    "LeakyReLU": "multiplies negative values by a fixed slope",
    "ELU": "bends negative values by a fixed exponential",
    "Softmax": "turns values into shares that add up to one",
    "ActivityRegularization": "adds a penalty to the loss and passes values on unchanged",
    "Identity": "passes values on unchanged",
    "Masking": "marks steps to be skipped",
    "UnitNormalization": "scales vectors to length one",
    "Lambda": "applies the function it was given",
    "InputLayer": "stands for the data",
    "Add": "adds its inputs",
    "Subtract": "subtracts its second input from the first",
    "Multiply": "multiplies its inputs",
    "Average": "takes the mean of its inputs",
    "Maximum": "takes the largest of its inputs",
    "Minimum": "takes the smallest of its inputs",
    "Concatenate": "puts its inputs side by side",
    "Dot": "takes dot products of its inputs",
    "Rescaling": "multiplies and shifts values by fixed numbers",
    "Resizing": "resizes images by interpolation",
    "CenterCrop": "cuts out the middle of images",
    "CategoryEncoding": "encodes whole numbers as vectors of zeros and ones",
    "Hashing": "hashes values into bins",
    "Random": "changes its input at random while training",
}

POSITIONS = {
    "length": "every position along the length",
    "height": "every position of the image",
    "depth": "every position of the volume",
}
"""What a convolution slides over, by the first side of its kernel."""


def instead(kind: str) -> str | None:
    """Return what a kind of layer does without weights, or None where that isn't known.

    Example:
        >>> instead("MaxPooling2D")
        'takes the largest value in each window'
    """
    name = kind.rstrip("123D") if kind[-2:-1].isdigit() else kind
    if name in _INSTEAD:
        return _INSTEAD[name]
    return _INSTEAD["Random"] if name.startswith("Random") else None


def listed(names: list[str], most: int = 8) -> str:
    """Write names as a list with a final `and`; beyond `most`, say how many more there are.

    Example:
        >>> listed(["gamma", "beta"])
        'gamma and beta'
    """
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most:,} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)


def plural(number: int, what: str) -> str:
    """Write a number with its noun, `1 weight` or `1,200 weights`."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
