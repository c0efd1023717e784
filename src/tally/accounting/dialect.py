"""The words of each framework, and of files, for what happens to weights: one table, so that no text has a case."""

from dataclasses import dataclass, field, replace

from tally.accounting.ledger import State


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How the place that a ledger was read from calls what happens to weights; left out, as Keras does.

    `{names}` stands for arrays, `{them}` for it or them; `{follow}` and `{are}` agree with their number.

    Args:
        waiting: What a layer is whose weights wait for an input.
        mark: The same in a cell of a table.
        uncounted: What a person's own count of them meets until then.
        feed: What ends the wait.
        switch: The attribute that freezes.
        statistics: How the averages of a normalisation come about, and why no gradient does.
        own_state: What other state is.
        fixed: Why fixed numbers are no parameters.
        none: Why a layer of the user's own has no weights.
        learn: What makes parameters of fixed numbers.
        states: An adjective for each state that counts.
        note: What to know of the whole; `{source}` stands for what was read.
        unfollowed: Why no call was followed.
        uncomputed: What can't be told of what layers compute.
        tells_learning: Whether it tells which weights learn; if not, all that could count as trainable.
        ordered: Whether the layers come in the order in which they were made, not in that of their names.
    """

    waiting: str = "not built"
    mark: str = "unbuilt"
    uncounted: str = "trainable_variables is empty"
    feed: str = "give the model an Input, call it on data, or call build(input_shape)"
    switch: str = "trainable"
    statistics: str = (
        "{names} {follow} the data: training updates {them} from each batch, no gradient ever does, so {they are} "
        "never trainable."
    )
    own_state: str = "{names} {are} state the layer keeps for itself: no gradient ever changes it."
    fixed: str = "stored and used like weights, but constant; not in the total."
    none: str = "it made none with add_weight and holds no layer that did"
    learn: str = "to learn them, make them weights with add_weight; to save them, with trainable=False"
    states: dict[State, str] = field(
        default_factory=lambda: {"trainable": "trainable", "frozen": "frozen", "state": "never trainable"}
    )
    note: str = ""
    unfollowed: str = (
        "Only calls of tally's own models are followed; of any other, what it holds was looked at."
    )
    uncomputed: str = "What a call of your own computes can't be told from sizes"
    tells_learning: bool = True
    ordered: bool = True


_TALLY = Dialect(
    unfollowed="No call could be followed, so only what is stored was looked at. Give the model an Input, or call it "
    "on data."
)
_KERAS = Dialect()
_TORCH = Dialect(
    waiting="not initialised",
    mark="lazy",
    uncounted="numel() of an uninitialised parameter raises an error",
    feed="run one batch through the model: the first forward initialises lazy modules",
    switch="requires_grad",
    statistics="{names} {follow} the data: each forward updates {them} in train() mode and leaves {them} in eval() "
    "mode. Buffers get no gradient, so {they are} never trainable.",
    own_state="register_buffer keeps {names}: state_dict() saves {them}, no gradient ever changes {them}.",
    fixed="buffers that are used like weights, but constant; not in the total.",
    none="it holds no parameter and no buffer, and no module that does",
    learn="to learn them, make them nn.Parameter; to save them, call register_buffer",
)
_FLAX = Dialect(
    statistics="{names} {follow} the data: each call with use_running_average=False updates {them} from its batch. "
    "Gradients are taken of parameters alone, so {they are} never trainable.",
    none="it holds no parameter, and no module that does",
)
_NNX = replace(
    _FLAX,
    own_state="{names} {are} no nnx.Param: a call may change {them}, no gradient ever does.",
    none="it holds no nnx.Variable, and no module that does",
    learn="to learn them, make them nnx.Param; to save them, nnx.Variable",
)
_LINEN = replace(
    _FLAX,
    own_state="A collection beside 'params' holds {names}: a call may change {them}, no gradient ever does.",
    learn="to learn them, make them with self.param; to save them, with self.variable",
)
_EQUINOX = Dialect(
    statistics="{names} {follow} the data: each call in training returns new ones in the state, which inference=True "
    "stops. Gradients are taken of the module, not of its state, so {they are} never trainable.",
    own_state="The state that a call returns holds {names}: no gradient ever changes {them}.",
    fixed="not real numbers, so eqx.is_inexact_array leaves them out of what learns; not in the total.",
    none="none of its fields holds an array, or a module that does",
    learn="to learn them, make them a field that holds an array of real numbers",
)
_UNTOLD = (
    "What was read ({source}) doesn't tell which weights learn: all that could are counted as trainable."
)
_UNSIZED = "What a layer computes can't be told where the file has no sizes of what goes in and out of it"
_ARRAYS = Dialect(
    own_state="{names} {are} state that is kept beside the weights: no gradient ever changes it.",
    fixed="stored beside the weights, and no parameters; not in the total.",
    none="no array is stored for it",
    learn="",
    note=_UNTOLD,
    uncomputed=_UNSIZED,
    tells_learning=False,
    ordered=False,
)
"""Arrays by name, from whatever made them."""
_TORCH_FILE = replace(_ARRAYS, switch="requires_grad", ordered=True)
_KERAS_WEIGHTS = replace(_KERAS, note=_UNTOLD, uncomputed=_UNSIZED, tells_learning=False, ordered=False)
_TENSORFLOW = replace(_ARRAYS, note="", tells_learning=True, ordered=True)
_CONSTANTS = replace(
    _ARRAYS,
    statistics="{names} {follow} the data: training averaged {them} over its batches, and here {they are} constants.",
    own_state="{names} {are} state that is kept beside the weights.",
    states={"trainable": "learned", "frozen": "learned and then packed", "state": "averaged over the data"},
    note="{source} holds constants, which nothing trains: trainable are those that training could go on with.",
    ordered=True,
)
"""Models that are ready to run, and only run."""

_DIALECTS = {
    "tally": _TALLY,
    "Keras weights": _KERAS_WEIGHTS,
    "Keras": _KERAS,
    "HDF5": _KERAS,
    "PyTorch model": _TORCH,
    "PyTorch": _TORCH_FILE,
    "TorchScript": _TORCH_FILE,
    "Flax NNX": _NNX,
    "Flax Linen": _LINEN,
    "Equinox": _EQUINOX,
    "ONNX": _CONSTANTS,
    "TensorFlow Lite": _CONSTANTS,
    "TensorFlow graph": _CONSTANTS,
    "GGUF": _CONSTANTS,
    "TensorFlow SavedModel": _TENSORFLOW,
    "TensorFlow module": _TENSORFLOW,
}
"""By how `Ledger.source` begins, the longest first where one begins another."""


def dialect(source: str) -> Dialect:
    """Return the words of the place that a ledger was read from.

    Args:
        source: `Ledger.source`, such as `"PyTorch model"`.

    Example:
        >>> dialect("PyTorch model").switch, dialect("tally model").switch, dialect("GGUF v3").note[:24]
        ('requires_grad', 'trainable', '{source} holds constants')
    """
    return next((words for start, words in _DIALECTS.items() if source.startswith(start)), _ARRAYS)
