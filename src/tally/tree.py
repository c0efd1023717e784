"""Nested tuples, lists and dicts: flatten them, map over them, pack them again."""

from collections.abc import Callable, Sequence
from typing import Any

import jax

from tally.core.errors import ArgumentError
from tally.core.symbol import leaves, map_tree


class MAP_TO_NONE:
    """What a function given to `traverse` returns to put None there."""


def is_nested(structure: Any) -> bool:
    """Whether it is a tuple, list, dict or another container that JAX knows."""
    return structure is not None and not jax.tree_util.all_leaves([structure])


def flatten(structure: Any) -> list[Any]:
    """The leaves, dicts in the order of their keys; None is a leaf."""
    return leaves(structure)


def flatten_with_path(structure: Any) -> list[tuple[tuple[Any, ...], Any]]:
    """Pairs of a path, made of keys and positions, and a leaf."""
    pairs, _ = jax.tree_util.tree_flatten_with_path(structure, is_leaf=lambda value: value is None)
    return [(tuple(_step(key) for key in path), leaf) for path, leaf in pairs]


def _step(key: Any) -> Any:
    return next(getattr(key, word) for word in ("key", "idx", "name") if hasattr(key, word))


def map_structure(func: Callable[..., Any], *structures: Any, none_is_leaf: bool = True) -> Any:
    """Apply a function to the corresponding leaves of structures of one form.

    Args:
        func: Takes one leaf of each structure.
        *structures: Nested alike.
        none_is_leaf: Whether None is passed to the function rather than kept.

    Raises:
        ValueError: The structures are nested differently.
    """
    return map_tree(func, *structures) if none_is_leaf else jax.tree.map(func, *structures)


def map_structure_up_to(shallow_structure: Any, func: Callable[..., Any], *structures: Any) -> Any:
    """Apply a function to what lies in the structures where the shallow one has its leaves."""
    return map_tree(lambda _, *parts: func(*parts), shallow_structure, *structures)


def map_shape_structure(func: Callable[[Any], Any], structure: Any) -> Any:
    """Apply a function to every shape, that is every tuple or list of sizes and None."""
    return jax.tree.map(func, structure, is_leaf=_is_shape)


def _is_shape(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and all(size is None or isinstance(size, int) for size in value)


def assert_same_structure(a: Any, b: Any, check_types: bool | None = None) -> None:
    """Check that two structures are nested alike.

    Raises:
        ValueError: They are not.
    """
    if _form(a) != _form(b):
        raise ArgumentError(f"These structures are nested differently: {_form(a)} and {_form(b)}.")


def _form(structure: Any) -> Any:
    return jax.tree.structure(structure, is_leaf=lambda value: value is None)


def assert_same_paths(a: Any, b: Any) -> None:
    """Check that two structures have their leaves at the same paths, whatever their containers' types.

    Raises:
        ValueError: They have not.
    """
    first, second = ({path for path, _ in flatten_with_path(structure)} for structure in (a, b))
    if first != second:
        raise ArgumentError(f"Only one of two structures has a leaf at {sorted(first ^ second, key=str)}.")


def pack_sequence_as(structure: Any, flat_sequence: Sequence[Any]) -> Any:
    """Put values, in the order `flatten` gives, into a structure's form.

    Raises:
        ValueError: There are too many or too few.
    """
    values, form = list(flat_sequence), _form(structure)
    if len(values) != form.num_leaves:
        raise ArgumentError(f"A structure of {form.num_leaves} leaves can't take {len(values)} values.")
    return jax.tree.unflatten(form, values)


def lists_to_tuples(structure: Any) -> Any:
    """The structure with every list made a tuple."""
    return traverse(lambda part: tuple(part) if isinstance(part, list) else None, structure, top_down=False)


def traverse(func: Callable[[Any], Any], structure: Any, top_down: bool = True) -> Any:
    """Visit every container and leaf; what the function returns takes the place of what it was given, None keeps it.

    Args:
        func: Takes a container or a leaf; returns `MAP_TO_NONE` to put None there.
        structure: The structure.
        top_down: Whether containers come before what they hold; then a replaced container is not entered.
    """
    if top_down:
        made = func(structure)
        if made is not None:
            return None if made is MAP_TO_NONE else made
    if is_nested(structure):
        parts, form = jax.tree.flatten(structure, is_leaf=lambda part: part is not structure)
        structure = jax.tree.unflatten(form, [traverse(func, part, top_down) for part in parts])
    if top_down:
        return structure
    made = func(structure)
    return structure if made is None else None if made is MAP_TO_NONE else made
