"""The document of a plan: memory, work with its conventions, the heaviest layers, the largest batch, the compiler."""

from collections.abc import Callable, Iterator, Sequence

from tally.accounting.plan import RESERVE, Compiled, LayerPlan, Memory, Plan
from tally.accounting.words import plural
from tally.report.document import Column, Document, Note, Part, Row, Table, Text, Title
from tally.report.figures import binary, count

_TOP = 8
"""Layers in a table of the heaviest."""


def draw(plan: Plan, *, width: int | None = None) -> Document:
    """Set a plan.

    Args:
        plan: What `tally.plan` found.
        width: The line length; None leaves it to where the document is drawn.
    """
    parts = [
        Title(f'Plan of "{plan.name}"'),
        Text(_setting(plan)),
        *_memory(plan),
        *_work(plan),
        *_heaviest(plan),
        *_optimizers(plan),
        *_cache(plan),
        *_batch(plan),
        *_compared(plan),
        *(Note(note) for note in plan.notes),
    ]
    return Document(tuple(parts), width)


def _setting(plan: Plan) -> str:
    what = f"training with {plan.optimizer_name}" if plan.training else "prediction"
    examples = "1 example" if plan.batch_size == 1 else f"{count(plan.batch_size)} examples"
    types = "types as stored" if plan.policy == "as stored" else f"policy {plan.policy}"
    where = "" if plan.device == "any" else f", on a {plan.device.upper()}"
    ran = plan.compiled is not None and plan.compiled.measured is not None
    return (
        f"{count(plan.count)} parameters; {what}, batches of {examples}, {types}{where}."
        f"{'' if ran else ' Nothing was allocated.'}"
    )


def _memory(plan: Plan) -> Iterator[Part]:
    ways = [
        (title, way)
        for title, way in (
            ("training", plan.step),
            ("rematerialised", plan.rematerialised),
            ("prediction", plan.prediction),
        )
        if way is not None
    ]
    yield Title("Memory", 2)
    columns = (Column(), *(Column(title=title, align="right", gap=3) for title, _ in ways))
    yield Table(columns=columns, rows=tuple(_memory_rows(plan, ways)), totals=(_peaks(plan, ways),))
    if any(_parts_of(plan, title, way) > way.peak for title, way in ways):
        yield Text("At the peak there is less than the sum: gradients come as activations go.")
    if plan.rematerialised is not None:
        yield Text(
            "Rematerialised: the forward pass is cut into segments; the backward pass keeps what goes from one to the "
            "next, and computes the rest again."
        )


def _memory_rows(plan: Plan, ways: list[tuple[str, Memory]]) -> Iterator[Row]:
    trains = [title != "prediction" for title, _ in ways]
    yield ("weights", *(binary(plan.parameters) for _ in ways))
    if plan.training:
        yield ("gradients", *(binary(plan.gradients) if one else "" for one in trains))
        yield (
            f"optimizer ({plan.optimizer_name})",
            *(binary(plan.optimizer) if one else "" for one in trains),
        )
    yield ("activations", *(_activations(plan, way) for _, way in ways))
    if plan.batch is not None:
        yield ("the batch", *(binary(plan.batch) for _ in ways))


def _peaks(plan: Plan, ways: list[tuple[str, Memory]]) -> Row:
    return ("at the peak", *(_least(plan) + binary(way.peak) for _, way in ways))


def _activations(plan: Plan, way: Memory) -> str:
    return "not told" if way.activations is None else _least(plan) + binary(way.activations)


def _least(plan: Plan) -> str:
    return "" if plan.followed else "at least "


def _parts_of(plan: Plan, title: str, way: Memory) -> int:
    """The sum of the rows of one column."""
    trained = plan.gradients + plan.optimizer if title != "prediction" else 0
    return plan.parameters + trained + (way.activations or 0) + (plan.batch or 0)


def _work(plan: Plan) -> Iterator[Part]:
    if plan.multiply_adds is None and plan.activations is None:
        return  # a note says why
    yield Title("Work", 2)
    columns = (Column(), Column(align="right", gap=3), Column(gap=2, wraps=True))
    yield Table(columns=columns, rows=tuple(_work_rows(plan)), ruled=False)
    yield Text(
        "Multiply-adds are those of matrix products and convolutions as one counts them by hand: every place of a "
        "convolution's output meets the whole kernel, zeros of the padding included; without biases."
    )
    if plan.flops is None:
        return
    yield Text(
        "FLOPs are counted as XLA's own analysis counts them: two for every product that exists, one for every value "
        "that an addition, a comparison or the like makes; exponentials, roots and the like are counted apart."
    )
    if plan.intensity is not None:
        yield Text(
            f"Arithmetic intensity: {plan.intensity:,.1f} FLOPs for each byte read or written. A device that does more "
            "than that in the time its memory takes for a byte waits for its memory."
        )


def _work_rows(plan: Plan) -> Iterator[Row]:
    for label, number, note in (
        ("multiply-adds, forward", plan.multiply_adds, "one example"),
        ("FLOPs, forward", plan.flops_forward, "a batch"),
        ("FLOPs, backward", plan.flops_backward, "a batch"),
        ("FLOPs, update", plan.flops_update, "a step"),
        ("exponentials and the like", plan.transcendentals, "in all" if plan.training else "a batch"),
    ):
        if number is not None:
            yield label, count(number), note
        elif label.startswith("multiply"):
            yield label, "unknown", "a layer's can't be told"


def _heaviest(plan: Plan) -> Iterator[Part]:
    example = "one example" if plan.multiply_adds is not None else "one example, of what can be told"
    yield from _ranking(plan.layers, "Most multiply-adds", example, _multiply_adds, count)
    if plan.training and plan.followed:
        yield from _ranking(plan.layers, "Most kept for the backward pass", "a batch", _kept, binary)
        return
    around = {layer.path[:place] for layer in plan.layers for place in _places(layer.path)}
    innermost = [layer for layer in plan.layers if layer.path and layer.path not in around]
    yield from _ranking(innermost, "Largest outputs", "a batch", _outputs, binary)


def _places(path: str) -> Iterator[int]:
    return (place for place, char in enumerate(path) if char == "/")


def _multiply_adds(layer: LayerPlan) -> int:
    return layer.multiply_adds or 0


def _kept(layer: LayerPlan) -> int:
    return layer.kept or 0


def _outputs(layer: LayerPlan) -> int:
    return layer.outputs or 0


def _ranking(
    layers: Sequence[LayerPlan],
    title: str,
    aside: str,
    weigh: Callable[[LayerPlan], int],
    write: Callable[[int], str],
) -> Iterator[Part]:
    """The layers with the most of something, with their share of all."""
    whole = sum(map(weigh, layers))
    ranked = sorted(filter(weigh, layers), key=weigh, reverse=True)
    if len(ranked) < 2:
        return
    yield Title(title, 2, aside)
    columns = (Column(flexible=True), Column(align="right"), Column(align="right"))
    rows = [(_label(layer), write(weigh(layer)), _percent(weigh(layer), whole)) for layer in ranked[:_TOP]]
    rest = sum(map(weigh, ranked[_TOP:]))
    if rest:
        rows.append((f"{count(len(ranked) - _TOP)} others", write(rest), _percent(rest, whole)))
    yield Table(columns=columns, rows=tuple(rows), ruled=False)


def _label(layer: LayerPlan) -> str:
    return f"{layer.path} ({layer.type})" if layer.path else f"({layer.type} itself)"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %"


def _optimizers(plan: Plan) -> Iterator[Part]:
    """What training takes with each of several optimizers, activations apart."""
    if not plan.optimizers:
        return
    yield Title("With other optimizers", 2, "without activations")
    columns = (Column(), Column(title="remembered", align="right"), Column(title="training", align="right"))
    whole = plan.parameters + plan.gradients
    rows = tuple((name, binary(kept), binary(whole + kept)) for name, kept in plan.optimizers)
    yield Table(columns=columns, rows=rows)


def _cache(plan: Plan) -> Iterator[Part]:
    """What a decoder keeps of the tokens before."""
    cache = plan.cache
    if cache is None:
        return
    same = cache.key_size == cache.value_size
    sizes = (
        f"2 × {count(cache.key_size)}" if same else f"({count(cache.key_size)} + {count(cache.value_size)})"
    )
    yield Title("Keys and values of the tokens before", 2, f"{binary(cache.per_token)} a token")
    yield Text(
        f"{plural(cache.layers, 'layer')} × {plural(cache.heads, 'key head')} × {sizes} numbers in {cache.dtype} = "
        f"{plural(cache.per_token, 'byte')} for each token of each sequence, where none is forgotten."
    )
    if cache.context is not None:
        whole = cache.per_token * cache.context
        yield Text(
            f"At {count(cache.context)} tokens, the most the model reads, a sequence takes {binary(whole)}, and a "
            f"batch of {count(plan.batch_size)} takes {binary(whole * plan.batch_size)}, beside what is planned above."
        )


def _batch(plan: Plan) -> Iterator[Part]:
    if plan.memory is None:
        return
    yield Title(f"What fits {plural(plan.memory, 'byte')} ({binary(plan.memory)})", 2)
    if plan.largest_batch is None:
        yield from _known(plan)
        return
    kept = f"with {RESERVE:.0%} left free for the runtime and for gaps"
    if plan.fixed is not None and plan.per_example is not None:
        each = _least(plan) + binary(plan.per_example)
        found = ", found from two sizes of batch" if plan.followed else ""
        yield Text(f"Whatever the batch, {binary(plan.fixed)}; each example adds {each}{found}.")
    most = "" if plan.followed else "at most "
    if not plan.largest_batch:
        yield Note(f"Not even a batch of 1 fits, {kept}.", "error")
    elif plan.fits:
        yield Text(f"The largest batch that fits has {most}{count(plan.largest_batch)} examples, {kept}.")
    else:
        yield Note(
            f"A batch of {count(plan.batch_size)} doesn't fit; the largest that does has {most}"
            f"{count(plan.largest_batch)} examples, {kept}.",
            "error",
        )


def _known(plan: Plan) -> Iterator[Part]:
    """Whether what is known of each way to run it fits, and by how much."""
    ways = (("Training", plan.step), ("Prediction", plan.prediction))
    for title, way in ways:
        spare = plan.spare(way) if way is not None else None
        if way is None or spare is None:
            continue
        takes = f"takes {_least(plan)}{binary(way.peak)}, and {RESERVE:.0%} of the memory is left free"
        if spare >= 0:
            yield Text(
                f"{title} fits as far as it is known: it {takes}; that leaves {binary(spare)} for activations."
            )
        else:
            yield Note(f"{title} doesn't fit: it {takes}; that is {binary(-spare)} too much.", "error")


def _compared(plan: Plan) -> Iterator[Part]:
    compiled = plan.compiled
    if compiled is None or plan.peak is None or plan.flops is None:
        return
    yield Title(
        "Compared with the compiler", 2, "a training step" if plan.training else "a batch of predictions"
    )
    columns = (Column(), Column(title="memory", align="right"), Column(title="plan is off by", align="right"))
    yield Table(columns=columns, rows=tuple(_memory_compared(plan.peak, compiled)))
    columns = (Column(), Column(title="FLOPs", align="right"), Column(title="plan is off by", align="right"))
    yield Table(columns=columns, rows=tuple(_flops_compared(plan.flops, compiled)))


def _memory_compared(peak: int, compiled: Compiled) -> Iterator[Row]:
    yield "planned", binary(peak), ""
    yield "the compiler's plan", binary(compiled.peak), _off(peak, compiled.peak)
    if compiled.measured is not None:
        yield "measured in a run", binary(compiled.measured), _off(peak, compiled.measured)


def _flops_compared(flops: int, compiled: Compiled) -> Iterator[Row]:
    yield "planned", count(flops), ""
    yield "the program as it is given to the compiler", count(compiled.flops), _off(flops, compiled.flops)
    yield (
        "the program the compiler makes of it",
        count(compiled.flops_optimised),
        _off(flops, compiled.flops_optimised),
    )


def _off(planned: int, found: int) -> str:
    return f"{100 * (planned / found - 1):+.1f} %" if found else ""
