"""A decision explained in lines of text, in the store's own time."""

from collections import Counter
from collections.abc import Iterator
from zoneinfo import ZoneInfo

from gateway.contract.explanations import Belief, Explanation, Explanations, Heard, LeafExplained, Matching, OfferExplained
from gateway.core.timetable import local_time

_SHOWN_WITHHELD = 20
_STRONGEST = 4
_MANY_TIMES = 1000


def lines(answer: Explanations, zone: ZoneInfo) -> Iterator[str]:
    """What a person reads; every line begins with the decision's id, so that one can be picked out of many."""
    for number, decision in enumerate(answer.decisions):
        if number:
            yield ""
        for line in _story(decision, zone):
            yield f"{decision.decision}  {line}"


def nearly_lines(answer: Explanations, zone: ZoneInfo) -> Iterator[str]:
    """What did not happen, one line each."""
    for missed in answer.not_entered:
        when = local_time(missed.time, zone).strftime("%a %Y-%m-%d %H:%M:%S")
        instead = "" if missed.instead is None else f", went on being in {missed.instead}"
        yield f"nearly     {when}  {missed.zone}: {missed.detail}{instead}{_border(missed.belief)}"


def _story(decision: Explanation, zone: ZoneInfo) -> Iterator[str]:
    when = local_time(decision.time, zone).strftime("%a %Y-%m-%d %H:%M:%S")
    test = ", a test shopper: no caps, no cool-downs" if decision.test_shopper else ""
    yield f"{when}  {_what(decision)}  (visit {decision.visit}{test})"
    if decision.heard:
        yield _line("sightings", "; ".join(_heard(decision.heard)))
    if decision.belief is not None:
        yield _line("position", _position(decision.belief, decision.zone or ""))
    if decision.stay is not None:
        yield _line("presence", decision.stay.detail)
    yield _line("delivery", f"{decision.event} {decision.delivery.detail}")
    if decision.matching is not None:
        yield from _matching(decision.matching)
    for offer in decision.offers:
        yield from _offer(offer)
    if decision.matching is not None:
        yield from _withheld(decision.matching)


def _what(decision: Explanation) -> str:
    verb = {"zone.entered": "entered", "zone.dwelled": "dwelled in", "zone.exited": "left"}.get(decision.event)
    return decision.event.replace(".", " ") if verb is None else f"{verb} {decision.zone}"


def _position(belief: Belief, zone: str) -> str:
    times = f"more than {_MANY_TIMES}" if belief.times_likelier > _MANY_TIMES else f"at least {belief.times_likelier:g}"
    rival = "outside" if belief.runner_up is None else f"{belief.runner_up}, the runner-up, or outside"
    return f"{zone} with {belief.probability:.0%}, {times} times as likely as {rival}{_border(belief)}"


def _border(belief: Belief) -> str:
    return f"; near the border to {belief.runner_up}" if belief.near_border else ""


def _heard(heard: tuple[Heard, ...]) -> Iterator[str]:
    for source, one, several in (
        ("receiver", "heard by 1 receiver", "heard by {} receivers"),
        ("hint", "the app's token told of 1 beacon", "the app's token told of {} beacons"),
        ("report", "the app reported 1 beacon", "the app reported {} beacons"),
    ):
        anchors = [f"{each.anchor} {each.level_dbm:.0f} dBm" for each in heard if each.source == source]
        if anchors:
            yield f"{one if len(anchors) == 1 else several.format(len(anchors))}: {', '.join(anchors)}"
    if len(heard) == _STRONGEST:
        yield "only the 4 strongest are kept"


def _matching(matching: Matching) -> Iterator[str]:
    yield _line("matching", matching.detail)
    if not matching.recomputed and matching.counts:
        yield _line("", f"withheld: {_counted(matching.counts)}")
    if matching.disagreement is not None:
        yield _line("", f"CAUTION: {matching.disagreement}")


def _offer(offer: OfferExplained) -> Iterator[str]:
    how = "a push" if offer.push else "a silent card"
    if not offer.push and offer.kind != "info":
        how += " on the shelf"
    yield _line("offered", f"{offer.promotion_id}: {how}, offer {offer.offer}")
    yield from _audience(offer.audience)
    yield _line("  central", offer.detail)
    if offer.delivery.state != "acknowledged":
        yield _line("  delivery", offer.delivery.detail)
    yield _line("  inbox", "known to central only" if offer.inbox is None else offer.inbox.detail)


def _withheld(matching: Matching) -> Iterator[str]:
    for withheld in matching.withheld[:_SHOWN_WITHHELD]:
        shelf = "; on the silent shelf instead" if withheld.on_shelf else ""
        yield _line("withheld", f"{withheld.promotion_id}, {withheld.reason.value}: {withheld.detail}{shelf}")
        yield from _audience(withheld.audience)
    for promotion_id in matching.context_not_kept[:_SHOWN_WITHHELD]:
        yield _line("withheld", f"{promotion_id}: context not kept, so only the counts tell why")
    if matching.context_not_kept:
        yield _line("", f"all that was withheld: {_counted(matching.counts)}")
    rest = Counter(matching.counts)
    rest.subtract(withheld.reason.value for withheld in matching.withheld[:_SHOWN_WITHHELD])
    if matching.recomputed and len(matching.withheld) > _SHOWN_WITHHELD:
        yield _line("", f"and {_counted(rest)}; --json shows more of them")


def _audience(leaves: tuple[LeafExplained, ...]) -> Iterator[str]:
    for leaf in leaves:
        yield _line("  audience", f"{leaf.path}: {leaf.detail}" if leaf.path else leaf.detail)


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()) if count > 0)


def _line(label: str, text: str) -> str:
    return f"  {label:<10} {text}"
