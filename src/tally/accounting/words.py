"""What kinds of layers do, said in a sentence: why a layer has no weights, and what it does instead."""

import re
from collections import Counter

_INSTEAD = {
    "Activation": "applies a fixed function",
    "ActivityRegularization": "adds a penalty to the loss and passes values on unchanged",
    "AdaptiveAveragePooling": "takes means over as many windows as the output has places",
    "AdaptiveMaxPooling": "takes the largest values of as many windows as the output has places",
    "Add": "adds its inputs",
    "AdditiveAttention": "weighs values by how well their keys answer a query",
    "AlphaDropout": "replaces values at random while training, and keeps their mean and variance",
    "Attention": "weighs values by how well their keys answer a query",
    "Average": "takes the mean of its inputs",
    "AveragePooling": "takes the mean of the values in each window",
    "CategoryEncoding": "encodes whole numbers as vectors of zeros and ones, or of counts",
    "CenterCrop": "cuts out the middle of images",
    "Concatenate": "puts its inputs side by side",
    "Cropping": "cuts away the border of its input",
    "Discretization": "replaces each number by the number of the bin it falls into",
    "Dot": "takes dot products of its inputs",
    "Dropout": "sets values to zero at random while training, and otherwise passes them on unchanged",
    "ELU": "bends negative values by a fixed exponential",
    "Flatten": "puts the same values in one row",
    "GaussianDropout": "multiplies values by random noise while training, and otherwise passes them on unchanged",
    "GaussianNoise": "adds random noise while training, and otherwise passes values on unchanged",
    "GlobalAveragePooling": "takes the mean of each channel over all positions",
    "GlobalMaxPooling": "takes the largest value of each channel over all positions",
    "Hashing": "hashes values into bins",
    "Identity": "passes values on unchanged",
    "InputLayer": "stands for the data",
    "LeakyReLU": "multiplies negative values by a fixed slope",
    "Masking": "marks steps to be skipped",
    "MaxPooling": "takes the largest value in each window",
    "Maximum": "takes the largest of its inputs",
    "Minimum": "takes the smallest of its inputs",
    "Multiply": "multiplies its inputs",
    "Normalization": "shifts and scales values by a mean and a variance it was given",
    "Permute": "exchanges axes",
    "Random": "changes its input at random while training",
    "ReLU": "sets negative values to zero, unless its fixed options say otherwise",
    "RepeatVector": "repeats the same values",
    "Rescaling": "multiplies and shifts values by fixed numbers",
    "Reshape": "arranges the same values in another shape",
    "Resizing": "resizes images by interpolation",
    "Softmax": "turns values into shares that add up to one",
    "SpatialDropout": "sets whole channels to zero at random while training",
    "Subtract": "subtracts its second input from the first",
    "UnitNormalization": "scales vectors to length one",
    "UpSampling": "repeats or interpolates values to enlarge its input",
    "ZeroPadding": "puts zeros around its input",
}

_INSIDE = {
    "Bidirectional": "Two copies of one layer, each with weights of its own: one reads the sequence forwards, the "
    "other backwards.",
    "GRU": "The cell runs once for each step of the sequence, always with the same weights.",
    "GroupedQueryAttention": "Queries, keys and values are projections of the inputs, and the output is one of what "
    "the heads found; several query heads share a key and a value head. Nothing else is learned.",
    "LSTM": "The cell runs once for each step of the sequence, always with the same weights.",
    "MultiHeadAttention": "Queries, keys and values are projections of the inputs, and the output is one of what the "
    "heads found. Nothing else is learned: how positions are weighed follows from the data.",
    "RNN": "The cell runs once for each step of the sequence, always with the same weights.",
    "Repeat": "Blocks that are alike, one after another, each with weights of its own.",
    "SimpleRNN": "The cell runs once for each step of the sequence, always with the same weights.",
    "SpectralNormalization": "The weight of the layer inside is divided by its largest singular value, which is "
    "estimated from a vector kept here; the layer's parameters stay as many.",
    "StackedRNNCells": "Each cell reads what the one before it gives, step by step, with weights of its own.",
    "TimeDistributed": "One layer is applied to every step, always with the same weights: the number of steps "
    "does not enter.",
}

ROLES = {
    "gamma": "scales",
    "scale": "scales",
    "weight": "scales",
    "beta": "shifts",
    "bias": "shifts",
}
"""What the weights of a normalisation do to what was normalised."""

POSITIONS = {
    "length": "every position of the sequence",
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
    name = stem(kind)
    if name in _INSTEAD:
        return _INSTEAD[name]
    return _INSTEAD["Random"] if name.startswith("Random") else None


def stem(kind: str) -> str:
    """Return the name of a class without its rank, one name for a family.

    Example:
        >>> stem("MaxPooling2D"), stem("ReLU")
        ('MaxPooling', 'ReLU')
    """
    return kind.rstrip("123D") if kind[-2:-1].isdigit() else kind


def inside(kind: str) -> str | None:
    """Return what a kind of layer does with the layers inside it, or None where that goes without saying."""
    return _INSIDE.get(kind)


def listed(names: list[str], most: int = 8) -> str:
    """Write names as a list with a final `and`; beyond `most`, say how many more there are.

    Example:
        >>> listed(["gamma", "beta"]), listed(["step"] * 37)
        ('gamma and beta', '37 × step')
    """
    counts = Counter(names)
    said = [name if times == 1 else f"{times:,} × {name}" for name, times in counts.items()]
    if len(said) > most:
        rest = len(names) - sum([*counts.values()][:most])
        return f"{', '.join(said[:most])} and {rest:,} more"
    return " and ".join([", ".join(said[:-1]), said[-1]] if said[1:] else said)


def singular(name: str) -> str:
    """Write the noun of an axis for a size of one.

    Example:
        >>> singular("units"), singular("input channels per group"), singular("biases"), singular("units c")
        ('unit', 'input channel per group', 'bias', 'unit c')
    """
    noun, per, of = name.partition(" per ")
    if letter := re.fullmatch(r"(\w+s) \w", noun):  # of an einsum: `units c`
        return noun.replace(letter[1], singular(letter[1])) + per + of
    if noun.endswith("ses"):
        noun = noun[:-2]
    elif noun.endswith("s") and not noun.endswith("ss"):
        noun = noun[:-1]
    return noun + per + of


def plural(number: int, what: str) -> str:
    """Write a number with its noun, `1 weight` or `1,200 weights`."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def each(number: int, what: str) -> str:
    """Write whom a sentence says something of: `each of the 3 units`, and of a single one `the one unit`.

    Example:
        >>> each(3, "unit"), each(1, "unit")
        ('each of the 3 units', 'the one unit')
    """
    return the(number, what) if number == 1 else f"each of {the(number, what)}"


def the(number: int, what: str) -> str:
    """Write a number of things that the reader knows: `the 3 units`, `the one unit`.

    Example:
        >>> the(3, "unit"), the(1, "unit")
        ('the 3 units', 'the one unit')
    """
    return f"the one {what}" if number == 1 else f"the {plural(number, what)}"


def sentence(text: str) -> str:
    """Begin a text with a capital letter, and leave the rest as it is."""
    return text[:1].upper() + text[1:]
