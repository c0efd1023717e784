"""Files from the net: downloaded once, compared with their hash, resumed where they broke off, unpacked within bounds.

`cache` finds what is there already, `fetching` brings the rest, `part` keeps what came so far, and `archives` unpacks.
"""

from tally.downloads.cache import get_file

__all__ = ["get_file"]
