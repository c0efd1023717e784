"""Attention: every place of one sequence takes a weighted mean of another, with weights that the two agree upon."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from tally.core.holding import current_call
from tally.core.layer import Layer
from tally.core.random import SeedGenerator
from tally.core.registry import publish
from tally.core.variable import Variable
from tally.kernels.attention import attend
from tally.layers.activation import Softmax
from tally.layers.arguments import adopt, own
from tally.layers.dense import EinsumDense
from tally.layers.options import read_count, read_word, refuse, refuse_shape, settle
from tally.layers.regularization import Dropout, drop

Shape = tuple[int | None, ...]
_LETTERS = "abcdefgijklm"  # n is the heads and h the size of one


def _causal(queries: Any, keys: Any) -> jax.Array:
    """True where a key is no later than the query: (1, queries, keys)."""
    return (jnp.arange(queries)[:, None] >= jnp.arange(keys))[None]


def _both(one: Any, other: Any) -> Any:
    """Where both masks are true; None hides nothing."""
    return other if one is None else one if other is None else jnp.logical_and(one, other)


def _is_followed() -> bool:
    """Whether this is an abstract run that counts what is computed: it sees sums and products, and into no kernel."""
    call = current_call.get()
    return call is not None and call.enter is not None


class _HeadedAttention(Layer):
    """What attention with several heads shares: projections into heads, the scores, the mean, and a projection back."""

    supports_masking = True
    dropout: float
    use_bias: bool
    use_gate: bool
    sliding_window: int | None
    seed: int | None
    flash_attention: bool | None
    projection_regularizer: Any

    def __init__(self, arguments: dict[str, Any]) -> None:
        """Keep a subclass's arguments under their names; `kwargs` among them are the base class's."""
        super().__init__(**arguments.pop("kwargs"))
        # Keras gives the regularizer of outputs to the projections, and not to the layer itself.
        regularizer = arguments.pop("activity_regularizer")
        adopt(self, {**arguments, "projection_regularizer": regularizer})
        if self.sliding_window is not None:
            read_count(self, "sliding_window", self.sliding_window)
        if arguments["flash_attention"] and self.dropout > 0:
            raise refuse(self, "can't drop scores that flash attention never makes.", "set dropout=0")

    def _project(
        self,
        name: str,
        shape: Shape,
        taken: int,
        sizes: Sequence[int | None],
        axes: Sequence[str],
        activation: Any = None,
    ) -> EinsumDense:
        """A layer that turns the last `taken` axes into axes of these sizes, built.

        Args:
            name: Name of the layer.
            shape: The input's shape.
            taken: How many of its last axes are summed over.
            sizes: Sizes of the axes that take their place.
            axes: Names of the axes of the kernel.
            activation: Function of the result.
        """
        letters = "".join(chr(ord("a") + i) for i in range(len(shape) + len(sizes)))
        free, bound, made = (
            letters[: len(shape) - taken],
            letters[len(shape) - taken : len(shape)],
            letters[len(shape) :],
        )
        kinds = ("initializer", "regularizer", "constraint")
        layer = EinsumDense(
            f"{free}{bound},{bound}{made}->{free}{made}",
            output_shape=(*(None for _ in free[1:]), *sizes),
            activation=activation,
            bias_axes=made if self.use_bias else None,
            name=name,
            dtype=self.dtype_policy,
            trainable=self.trainable,
            activity_regularizer=self.projection_regularizer,
            **{
                f"{part}_{kind}": getattr(self, f"{part}_{kind}")
                for part in ("kernel", "bias")
                for kind in kinds
            },
        )
        layer.supports_masking = True  # the masks are used in the scores
        layer._build(shape)
        layer.kernel.axes = tuple(axes)
        if isinstance(layer.bias, Variable):
            layer.bias.axes = tuple(axes[taken:])
        return layer

    def _build_heads(
        self,
        shapes: Sequence[Shape],
        heads: tuple[int, int],
        sizes: tuple[int, int],
        made: Sequence[int | None],
        words: Sequence[str],
    ) -> None:
        """Make the projections.

        Args:
            shapes: Of query, value and key.
            heads: Number of heads of queries, and of keys and values.
            sizes: Size of one head of queries and keys, and of values.
            made: Sizes of the output's last axes.
            words: What the heads of queries, those of keys, the size of a key and that of a value are called.
        """
        query, value, key = shapes
        if len(value) != len(key) or any(
            None not in pair and pair[0] != pair[1] for pair in zip(value[1:-1], key[1:-1], strict=True)
        ):
            raise refuse_shape(self, f"has as many keys as values, but was given {key} and {value}.")
        asking, asked, size, content = words
        self._query_dense = self._project("query", query, 1, (heads[0], sizes[0]), ("features", asking, size))
        self._key_dense = self._project("key", key, 1, (heads[1], sizes[0]), ("features", asked, size))
        if self.use_gate:
            axes = ("features", asking, content)
            self._gate_dense = self._project("gate", query, 1, (heads[0], sizes[1]), axes, "sigmoid")
        self._value_dense = self._project(
            "value", value, 1, (heads[1], sizes[1]), ("features", asked, content)
        )
        self._softmax = Softmax(dtype=self.dtype_policy)
        self._dropout_layer = Dropout(self.dropout, dtype=self.dtype_policy, seed=self.seed)
        inner = (*query[:-1], heads[0], sizes[1])
        words = (
            ("features",)
            if list(made) == [query[-1]]
            else tuple(f"output features {i or ''}".strip() for i in range(len(made)))
        )
        self._output_dense = self._project("attention_output", inner, 2, made, (asking, content, *words))

    def call(
        self,
        query: jax.Array,
        value: jax.Array,
        key: jax.Array | None = None,
        query_mask: Any = None,
        value_mask: Any = None,
        key_mask: Any = None,
        attention_mask: Any = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
        use_causal_mask: bool = False,
    ) -> Any:
        """The attended sequence, and the scores if wanted.

        Args:
            query: (batch, queries, features)
            value: (batch, keys, features)
            key: (batch, keys, features); the value unless given.
            query_mask: (batch, queries), true where there is something.
            value_mask: (batch, keys), likewise.
            key_mask: (batch, keys), likewise.
            attention_mask: (batch, queries, keys), true where a query may look.
            return_attention_scores: Whether to give the scores, too: (batch, heads, queries, keys).
            training: Whether to drop scores.
            use_causal_mask: Whether queries see no later keys.
        """
        if return_attention_scores and self.flash_attention:
            raise refuse(
                self, "can't return scores that flash attention never makes.", "set flash_attention=False"
            )
        key = value if key is None else key
        mask = None if attention_mask is None else jnp.asarray(attention_mask, bool)
        if query_mask is not None:
            mask = _both(mask, jnp.asarray(query_mask, bool)[..., :, None])
        for one in (value_mask, key_mask):
            mask = mask if one is None else _both(mask, jnp.asarray(one, bool)[..., None, :])
        if self.sliding_window is not None:
            distance = jnp.arange(query.shape[1])[:, None] - jnp.arange(value.shape[1])
            mask = _both(mask, (jnp.abs(distance) < self.sliding_window)[None])
        q, k, v = self._query_dense(query), self._key_dense(key), self._value_dense(value)
        at_once = (
            q.ndim == 4
            and not (self.dropout and training)
            and not return_attention_scores
            and self._attended(q) == (1,)
            and q.shape[-1] == v.shape[-1]  # JAX takes heads of one size
        )
        is_square = query.shape[1] == value.shape[1]
        causal = at_once and use_causal_mask and mask is None and is_square  # kernels know this mask by name
        if use_causal_mask and not causal:
            mask = _both(mask, _causal(query.shape[1], value.shape[1]))
        if at_once:
            attended, scores = self._attend_at_once(q, k, v, mask, causal), None
        else:
            attended, scores = self._attend_by_scores(q, k, v, mask, bool(training))
        if self.use_gate:
            attended = attended * self._gate_dense(query)
        output = self._output_dense(attended)
        return (output, scores) if return_attention_scores else output

    def _attended(self, q: jax.Array) -> tuple[int, ...]:
        """The axes that attention runs over."""
        return tuple(range(1, q.ndim - 2))

    def _attend_at_once(self, q: jax.Array, k: jax.Array, v: jax.Array, mask: Any, causal: bool) -> jax.Array:
        """Attention by one function, which may never hold all scores."""
        if mask is not None:
            mask = mask if mask.ndim == 4 else mask[:, None]
        flash = False if self.flash_attention is None and _is_followed() else self.flash_attention
        return attend(q, k, v, mask=mask, causal=causal, flash=flash)

    def _attend_by_scores(
        self, q: jax.Array, k: jax.Array, v: jax.Array, mask: Any, training: bool
    ) -> tuple[jax.Array, jax.Array]:
        """Attention over any axes, and the scores (batch, heads, queries, keys)."""
        repeats = q.shape[-2] // k.shape[-2]
        if repeats > 1:
            k, v = jnp.repeat(k, repeats, axis=-2), jnp.repeat(v, repeats, axis=-2)
        axes = self._attended(q)
        asking = _LETTERS[: q.ndim - 2]
        asked = "".join(letter.upper() if i in axes else letter for i, letter in enumerate(asking))
        kept = "".join(letter for i, letter in enumerate(asking) if i not in axes)
        inner = kept + "n" + "".join(asking[i] for i in axes) + "".join(asked[i] for i in axes)
        scores = jnp.einsum(f"{asking}nh,{asked}nh->{inner}", q * (1 / math.sqrt(q.shape[-1])), k)
        while mask is not None and mask.ndim < scores.ndim:
            mask = jnp.expand_dims(mask, -2 * len(axes) - 1)
        self._softmax.axis = tuple(range(-len(axes), 0))
        scores = self._softmax(scores, mask=mask)
        weights = self._dropout_layer(scores, training=training) if self.dropout else scores
        return jnp.einsum(f"{inner},{asked}nh->{asking}nh", weights, v), scores


class MultiHeadAttention(_HeadedAttention):
    """Attention with several heads, each with projections of its own.

    Args:
        num_heads: Number of heads.
        key_dim: Size of a head's queries and keys.
        value_dim: Size of a head's values; `key_dim` unless given.
        dropout: Share of the scores dropped in training.
        use_bias: Whether the projections have biases.
        output_shape: Size, or sizes, of the output's last axes; the query's features unless given.
        attention_axes: Axes that attention runs over; all but batch and features unless given.
        sliding_window: If given, queries see keys at a distance below it.
        flash_attention: True takes cuDNN's kernel or fails, False never takes it. None takes it on NVIDIA GPUs where
            it fits: half precision, no mask but the causal one, no scores dropped or asked for, sequences from 64
            places, heads of up to 128 whose size is a multiple of 8. Second derivatives need False there.
        kernel_initializer, bias_initializer: How the projections' weights start.
        kernel_regularizer, bias_regularizer: Functions of them added to the loss.
        activity_regularizer: Function of the projections' outputs added to the loss.
        kernel_constraint, bias_constraint: Functions applied after each update.
        use_gate: Whether a sigmoid projection of the query multiplies what was attended.
        seed: An integer makes the drops repeatable.

    Shapes:
        query: (batch, queries, features)
        value, key: (batch, keys, features); the key is the value unless given.
        output: (batch, queries, features)

    Raises:
        ShapeError: Keys and values are not equally many.

    Example:
        >>> x = tally.Input((10, 16))
        >>> MultiHeadAttention(num_heads=2, key_dim=8)(x, x, use_causal_mask=True).shape
        (None, 10, 16)

    Source: Vaswani et al. (2017), arXiv 1706.03762; `keras.layers.MultiHeadAttention`.
    """

    num_heads: int
    key_dim: int
    value_dim: int
    attention_axes: Any
    _output_shape: Any

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        value_dim: int | None = None,
        dropout: float = 0.0,
        use_bias: bool = True,
        output_shape: int | Sequence[int] | None = None,
        attention_axes: int | Sequence[int] | None = None,
        sliding_window: int | None = None,
        flash_attention: bool | None = None,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        use_gate: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        arguments = own(locals())
        given = arguments.pop("output_shape")
        super().__init__(arguments)
        for name in ("num_heads", "key_dim"):
            read_count(self, name, arguments[name])
        settle(self, value_dim=read_count(self, "value_dim", value_dim or key_dim))
        made = None if not given else (given,) if isinstance(given, int) else tuple(given)
        settle(self, _output_shape=made)
        self._arguments["output_shape"] = made
        axes = (attention_axes,) if isinstance(attention_axes, int) else attention_axes
        settle(self, attention_axes=None if axes is None else tuple(axes))

    def build(self, query_shape: Shape, value_shape: Shape, key_shape: Shape | None = None) -> None:
        """Make the four projections."""
        rank = len(query_shape)
        axes = range(1, rank - 1) if self.attention_axes is None else self.attention_axes
        settle(self, attention_axes=tuple(axis % rank for axis in axes))
        shapes = (query_shape, value_shape, key_shape or value_shape)
        content = "key size" if self.value_dim == self.key_dim else "value size"
        made = self._output_shape or (query_shape[-1],)
        words = ("heads", "heads", "key size", content)
        self._build_heads(
            shapes, (self.num_heads, self.num_heads), (self.key_dim, self.value_dim), made, words
        )

    def _attended(self, q: jax.Array) -> tuple[int, ...]:
        return self.attention_axes

    query_dense = property(lambda self: self._query_dense, doc="The projection of the query.")
    key_dense = property(lambda self: self._key_dense, doc="The projection of the key.")
    value_dense = property(lambda self: self._value_dense, doc="The projection of the value.")
    output_dense = property(lambda self: self._output_dense, doc="The projection back.")

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments; `flash_attention` is not among them, as in Keras."""
        return {name: value for name, value in super().get_config().items() if name != "flash_attention"}


class GroupedQueryAttention(_HeadedAttention):
    """Attention in which several query heads share the keys and values of one head.

    Args:
        head_dim: Size of a head.
        num_query_heads: Number of heads of queries.
        num_key_value_heads: Number of heads of keys and values; divides the other.
        dropout: Share of the scores dropped in training.
        use_bias: Whether the projections have biases.
        sliding_window: If given, queries see keys at a distance below it.
        flash_attention: True takes cuDNN's kernel or fails, False never takes it. None takes it on NVIDIA GPUs where
            it fits: half precision, no mask but the causal one, no scores dropped or asked for, sequences from 64
            places, heads of up to 128 whose size is a multiple of 8. Second derivatives need False there.
        kernel_initializer, bias_initializer: How the projections' weights start.
        kernel_regularizer, bias_regularizer: Functions of them added to the loss.
        activity_regularizer: Function of the projections' outputs added to the loss.
        kernel_constraint, bias_constraint: Functions applied after each update.
        use_gate: Whether a sigmoid projection of the query multiplies what was attended.
        seed: An integer makes the drops repeatable.

    Shapes:
        query: (batch, queries, features)
        value, key: (batch, keys, features); the key is the value unless given.
        output: (batch, queries, features)

    Raises:
        ArgumentError: The query heads can't be shared out evenly.

    Source: Ainslie et al. (2023), arXiv 2305.13245; `keras.layers.GroupQueryAttention`.
    """

    keras_name = "GroupQueryAttention"
    head_dim: int
    num_query_heads: int
    num_key_value_heads: int

    def __init__(
        self,
        head_dim: int,
        num_query_heads: int,
        num_key_value_heads: int,
        dropout: float = 0.0,
        use_bias: bool = True,
        sliding_window: int | None = None,
        flash_attention: bool | None = None,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        use_gate: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        arguments = own(locals())
        super().__init__(arguments)
        for name in ("head_dim", "num_query_heads", "num_key_value_heads"):
            read_count(self, name, arguments[name])
        if num_query_heads % num_key_value_heads:
            raise refuse(
                self,
                f"can't share {num_key_value_heads} heads of keys among {num_query_heads} heads of queries.",
                "let num_key_value_heads divide num_query_heads",
            )

    def build(self, query_shape: Shape, value_shape: Shape, key_shape: Shape | None = None) -> None:
        """Make the four projections."""
        shapes = (query_shape, value_shape, key_shape or value_shape)
        heads = (self.num_query_heads, self.num_key_value_heads)
        words = ("query heads", "key heads", "head size", "head size")
        self._build_heads(shapes, heads, (self.head_dim, self.head_dim), (query_shape[-1],), words)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments; `flash_attention` is not among them, as in Keras."""
        return {name: value for name, value in super().get_config().items() if name != "flash_attention"}


GroupQueryAttention = GroupedQueryAttention
publish(GroupedQueryAttention, "GroupQueryAttention", "GroupedQueryAttention", family="layers")


class _PlainAttention(Layer):
    """Attention without heads on a list `[query, value]` or `[query, value, key]`; a subclass says the scores."""

    supports_masking = True
    dropout: float
    seed: int | None
    scale: Variable | None
    seed_generator: SeedGenerator

    def _check_inputs(self, inputs: Any) -> None:
        if not isinstance(inputs, (list, tuple)) or len(inputs) not in (2, 3):
            given = f"a list of {len(inputs)}" if isinstance(inputs, (list, tuple)) else "one tensor"
            raise refuse_shape(
                self,
                f"takes [query, value] or [query, value, key], but was given {given}.",
                do="put them into a list",
            )

    def _scores(self, query: jax.Array, key: jax.Array) -> jax.Array:
        raise NotImplementedError

    def call(
        self,
        inputs: Sequence[jax.Array],
        mask: Any = None,
        training: bool = False,
        return_attention_scores: bool = False,
        use_causal_mask: bool = False,
    ) -> Any:
        """The attended sequence, and the scores if wanted.

        Args:
            inputs: Query (batch, queries, features), value (batch, keys, features) and, if it differs, the key.
            mask: For each of them None, or (batch, queries or keys).
            training: Whether to drop scores.
            return_attention_scores: Whether to give the scores (batch, queries, keys), too.
            use_causal_mask: Whether queries see no later keys.
        """
        self._check_inputs(inputs)
        query, value = inputs[0], inputs[1]
        query_mask, value_mask = (None, None) if mask is None else mask[:2]
        scores = self._scores(query, inputs[2] if len(inputs) > 2 else value)
        seen = (
            None if value_mask is None else value_mask[..., None, :] if value_mask.ndim == 2 else value_mask
        )
        if use_causal_mask:
            seen = _both(seen, _causal(scores.shape[-2], scores.shape[-1]))
        if seen is not None:
            # A finite number, so that a row with nothing to see gives a mean and not NaN; 65504 is float16's largest.
            scores = jnp.where(seen, scores, scores - (65504.0 if scores.dtype == jnp.float16 else 1e9))
        scores = weights = jax.nn.softmax(scores, axis=-1)
        if training and self.dropout > 0:
            weights = drop(scores, self.dropout, self.seed_generator.key())
        attended = weights @ value
        if query_mask is not None:
            attended = jnp.where(query_mask[..., None], attended, 0)
        return (attended, scores) if return_attention_scores else attended

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """The query's mask."""
        del inputs
        return None if previous_mask is None else previous_mask[0]


class Attention(_PlainAttention):
    """Dot-product attention.

    Args:
        use_scale: Whether a learned number multiplies the scores.
        score_mode: `"dot"`, or `"concat"`: the sum of `tanh(query + key)`, times a learned number.
        dropout: Share of the scores dropped in training.
        seed: An integer makes the drops repeatable.

    Shapes:
        input: a list of query (batch, queries, features), value (batch, keys, features) and, if it differs, the key
        output: (batch, queries, features)

    Source: Luong et al. (2015), arXiv 1508.04025; `keras.layers.Attention`.
    """

    def __init__(
        self,
        use_scale: bool = False,
        score_mode: str = "dot",
        dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.use_scale, self.dropout, self.seed = use_scale, dropout, seed
        self.score_mode = read_word(self, "score_mode", score_mode, ("dot", "concat"))
        if dropout > 0:
            self.seed_generator = SeedGenerator(seed)

    def build(self, input_shape: Any) -> None:
        """Make the learned numbers."""
        self._check_inputs(input_shape)
        self.scale = self.add_weight(name="scale", shape=(), initializer="ones") if self.use_scale else None
        if self.score_mode == "concat":
            self.concat_score_weight = self.add_weight(
                name="concat_score_weight", shape=(), initializer="ones"
            )

    def _scores(self, query: jax.Array, key: jax.Array) -> jax.Array:
        scale = 1.0 if self.scale is None else self.scale.value
        if self.score_mode == "dot":
            return (query @ jnp.swapaxes(key, -2, -1)) * scale
        pairs = query[..., :, None, :] + key[..., None, :, :]
        return self.concat_score_weight.value * jnp.sum(jnp.tanh(scale * pairs), axis=-1)


class AdditiveAttention(_PlainAttention):
    """Attention whose scores are a weighted sum of `tanh(query + key)`.

    Args:
        use_scale: Whether the weights of that sum are learned; else they are 1.
        dropout: Share of the scores dropped in training.
        seed: An integer makes the drops repeatable.

    Shapes:
        input: a list of query (batch, queries, features), value (batch, keys, features) and, if it differs, the key
        output: (batch, queries, features)

    Source: Bahdanau et al. (2015), arXiv 1409.0473; `keras.layers.AdditiveAttention`.
    """

    def __init__(
        self, use_scale: bool = True, dropout: float = 0.0, seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.use_scale, self.dropout, self.seed = use_scale, dropout, seed
        if dropout > 0:
            self.seed_generator = SeedGenerator(seed)

    def build(self, input_shape: Any) -> None:
        """Make the weights of the sum."""
        self._check_inputs(input_shape)
        self.scale = None
        if self.use_scale:
            self.scale = self.add_weight(
                name="scale", shape=(input_shape[0][-1],), initializer="glorot_uniform", axes=("features",)
            )

    def _scores(self, query: jax.Array, key: jax.Array) -> jax.Array:
        scale = 1.0 if self.scale is None else self.scale.value
        return jnp.sum(scale * jnp.tanh(query[..., :, None, :] + key[..., None, :, :]), axis=-1)
