"""`scripts/bench`: every figure of the product that a promise is made about, measured in one run beside a peer or a limit.

One module for each subject, each with a ``measure(effort)`` that returns figures; each runs in a process of its own, so that none
inherits another's memory. ``scene`` is the shop that all of them share.
"""
