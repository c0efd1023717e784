"""The race's results as a table on the terminal."""

from collections.abc import Sequence
from typing import Any

from benchmarks.race.spread import ratios, spread

_HEAD = (
    f"{'contestant':<18}{'wall ms':>9}{'least':>9}{'cpu ms':>9}{'wall ratio':>12}{'quartiles':>14}{'cpu ratio':>11}"
    f"{'faults':>8}{'first cpu s':>13}{'peak MB':>9}{'foreign':>9}{'loss':>9}"
)


def table(records: Sequence[dict[str, Any]]) -> list[str]:
    """Lines for one workload in one mode; times are per step, ratios over the first contestant's.

    Args:
        records: As `race` gives them, of one workload and mode.
    """
    present = [record for record in records if "absent" not in record]
    lines = [_HEAD] if present else []
    for record in present:
        steps, base = record["steps"], present[0]
        wall, cpu = spread(record["wall"]), spread(record["cpu"])
        ratio, work = ratios(record["wall"], base["wall"]), ratios(record["cpu"], base["cpu"])
        loss = f"{record['losses'][-1]:>9.4f}" if record["losses"] else f"{'':>9}"
        lines.append(
            f"{record['contestant']:<18}{1e3 * wall.median / steps:>9.3f}{1e3 * wall.least / steps:>9.3f}"
            f"{1e3 * cpu.median / steps:>9.3f}{ratio.median:>12.2f}{f'{ratio.low:.2f}-{ratio.high:.2f}':>14}"
            f"{work.median:>11.2f}{spread(record['faults']).median / steps:>8.0f}{record['first_cpu']:>13.2f}"
            f"{record['peak'] / 1e6:>9.0f}{spread(record['foreign']).median:>9.0%}{loss}"
        )
    lines += [
        f"{record['contestant']:<18} left out: {record['absent']}" for record in records if "absent" in record
    ]
    return lines
