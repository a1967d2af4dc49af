"""What did not happen, and what was missing, in words."""

from dataclasses import replace
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from gateway.cli.why_text import nearly_lines
from gateway.contract.control import ExplainRequest
from gateway.contract.explanations import Explanations
from gateway.core.model import AnchorLevel, Evidence, Instant, NotEntered
from gateway.daemon.nearly import not_entered

NOW_MS = 1_790_000_000_000
HEARD = (AnchorLevel("r-dairy", -61.0, "receiver"), AnchorLevel("r-bakery", -66.0, "receiver"))
PASSED = NotEntered(
    shopper="8a4061daf88a329d",
    zone="dairy",
    instead="bakery",
    since=Instant(1000, NOW_MS - 64_000),
    at=Instant(5000, NOW_MS - 60_000),
    believed_ms=3100,
    needed_ms=5000,
    margin=1.2,
    needed_margin=0.5,
    evidence=Evidence(0.6, "bakery", 0.9, HEARD, near_border=True),
)
UNSURE = replace(PASSED, zone="wine", believed_ms=0, margin=0.2, needed_margin=1.5, at=Instant(9000, NOW_MS - 1000))


@pytest.mark.parametrize(
    ("missed", "detail"),
    [
        (PASSED, "heard by 2 receivers, dwelled 3.1 of 5 s, not entered"),
        (UNSURE, "heard by 2 receivers, 1.2 times as likely as bakery where 4.5 times are needed, not entered"),
        (
            replace(UNSURE, instead=None, evidence=replace(UNSURE.evidence, anchors=HEARD[:1])),
            "heard by 1 receiver, 1.2 times as likely as outside where 4.5 times are needed, not entered",
        ),
    ],
)
def test_what_was_missing_is_said_in_words(missed: NotEntered, detail: str) -> None:
    (found,) = not_entered([missed], ExplainRequest(), NOW_MS, None)
    assert found.detail == detail


@pytest.mark.parametrize(
    ("question", "newest_ms", "zones"),
    [
        ({}, None, ["dairy", "wine"]),
        ({}, NOW_MS - 30_000, ["wine"]),
        ({"zone": "dairy"}, NOW_MS - 30_000, ["dairy"]),
        ({"zone": "cellar"}, None, []),
        ({"since_s": 30}, None, ["wine"]),
        ({"since_s": 600}, NOW_MS, ["dairy", "wine"]),
        ({"offer": "0123456789abcdef"}, None, []),
        ({"decision": "01234567-d1"}, None, []),
    ],
)
def test_it_is_told_where_it_belongs_to_the_question(question: dict[str, Any], newest_ms: int | None, zones: list[str]) -> None:
    found = not_entered([PASSED, UNSURE], ExplainRequest(**question), NOW_MS, newest_ms)
    assert [each.zone for each in found] == zones


def test_a_line_names_everything_but_the_shopper() -> None:
    answer = Explanations(epoch="0" * 16, time_zone="UTC", not_entered=not_entered([PASSED], ExplainRequest(), NOW_MS, None))
    (line,) = nearly_lines(answer, ZoneInfo("UTC"))
    assert line.endswith(
        "dairy: heard by 2 receivers, dwelled 3.1 of 5 s, not entered, went on being in bakery; near the border to bakery"
    )
    assert PASSED.shopper not in answer.model_dump_json()
