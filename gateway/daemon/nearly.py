"""What did not happen, explained: a zone in which a shopper nearly was, and what was missing."""

from collections.abc import Iterable
from math import exp

from gateway.contract.control import ExplainRequest
from gateway.contract.explanations import MAX_NOT_ENTERED, Belief, Heard
from gateway.contract.explanations import NotEntered as NotEnteredExplained
from gateway.core.model import Evidence, NotEntered

_MOST_TIMES = 1_000_000
_WITH_THE_NEWEST = 3


def belief_of(evidence: Evidence) -> Belief:
    """In the words of ``gateway why``."""
    return Belief(
        probability=evidence.belief,
        runner_up=evidence.runner_up,
        times_likelier=round(min(exp(evidence.margin), _MOST_TIMES), 1),
        near_border=evidence.near_border,
    )


def not_entered(
    known: Iterable[NotEntered], request: ExplainRequest, now_ms: int, newest_decision_ms: int | None
) -> tuple[NotEnteredExplained, ...]:
    """Oldest first, what belongs to the question; beside the newest decision what came after it. ``now_ms``: wall."""
    if request.offer is not None or request.decision is not None:
        return ()
    since_ms, most = 0, MAX_NOT_ENTERED
    if request.since_s is not None:
        since_ms = now_ms - request.since_s * 1000
    elif newest_decision_ms is not None and request.zone is None:
        since_ms, most = newest_decision_ms, _WITH_THE_NEWEST
    found = [each for each in known if each.at.wall_ms >= since_ms and request.zone in {None, each.zone}]
    return tuple(_explained(each) for each in found[-most:])


def _explained(missed: NotEntered) -> NotEnteredExplained:
    receivers = sum(level.source == "receiver" for level in missed.evidence.anchors)
    heard = f"heard by {receivers} receiver{'' if receivers == 1 else 's'}"
    return NotEnteredExplained(
        time=missed.at.wall_ms,
        zone=missed.zone,
        instead=missed.instead,
        heard=tuple(Heard(anchor=a.anchor, level_dbm=a.level_dbm, source=a.source) for a in missed.evidence.anchors),
        belief=belief_of(missed.evidence),
        believed_s=missed.believed_ms / 1000,
        needed_s=missed.needed_ms / 1000,
        detail=f"{heard}, {_missing(missed)}, not entered",
    )


def _missing(missed: NotEntered) -> str:
    """What an entry would have taken beyond what there was."""
    if missed.margin > missed.needed_margin or missed.believed_ms > 0:
        return f"dwelled {missed.believed_ms / 1000:.1f} of {missed.needed_ms / 1000:g} s"
    rival = missed.instead or "outside"
    reached, needed = exp(max(0.0, missed.margin)), exp(missed.needed_margin)
    return f"{reached:.1f} times as likely as {rival} where {needed:.1f} times are needed"
