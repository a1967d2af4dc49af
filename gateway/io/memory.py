"""Memory and pauses of the process as a whole."""

import ctypes
import gc
import sys

_SWITCH_S = 0.00002
"""Shorter than what lies between two moments at which a busy event loop gives Python's lock away for an instant (a socket read,
a look for what is ready). A thread that waits for the lock begins its waiting anew with each of them, and asks for the lock only
after it has waited that long: behind a loop that read often, the database thread took 250 ms for an insertion of 1 ms so."""
_MUCH = 2_000
_THRESHOLDS = (20_000, 1, 1_000_000)
"""What was made since the last pass is gone through when there is so much of it, about 1 µs an object on a small machine, and
every second time what came through the pass before. What has come through both is old, and not gone through again."""


def give_back() -> None:
    """Hand freed memory back to the system.

    glibc keeps most of what a large document took while it was read (6 MB for a catalogue of 1,000 promotions); other C libraries
    have no such call, and need none.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def shorten_pauses() -> None:
    """For a process whose event loop must never wait long, once what stays has been loaded.

    A thread that waits for Python's lock gets it after 0.02 ms instead of 5. The garbage collector no longer looks at what is
    there already, and at the rest a little at a time (``collect``): going through all objects of 2,000 shoppers takes a hundred
    milliseconds, and next to nothing of what a gateway makes needs it to go.
    """
    sys.setswitchinterval(_SWITCH_S)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)


def collect() -> None:
    """Let the garbage collector look at what is new, if that is much, at a moment when nobody waits; else it chooses one itself.

    Not at every such moment: what is alive when it looks is old from then on.
    """
    new, passes, _ = gc.get_count()
    if gc.isenabled() and new >= _MUCH:
        gc.collect(1 if passes else 0)


def collect_all() -> None:
    """Look at what is old, too: takes some ten milliseconds in an empty shop, a hundred with 2,000 shoppers in it."""
    gc.collect()
