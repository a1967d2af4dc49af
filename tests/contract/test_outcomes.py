"""What leaves the gateway: nothing beyond consent, never how strongly or where exactly a phone was heard."""

from typing import Any

import pytest

from gateway.contract.messages import EVENT_TYPES
from gateway.contract.outcomes import uplink_rows
from gateway.core import model
from gateway.core.model import AnchorLevel, Consent, Evidence, Instant, OfferMatched, Outcome, Withheld, WithheldReason

SHOPPER, VISIT = "8a4061daf88a329d", "5c1a7f0022334455"
BEFORE, AT = Instant(1_000, 1_790_000_000_000), Instant(61_500, 1_790_000_060_500)
ANCHORS = (AnchorLevel("receiver-dairy", -61.25, "receiver"), AnchorLevel("fridge", -71.5, "hint"))
EVIDENCE = Evidence(0.93, "bakery", 2.1, ANCHORS)


def events(consent: Consent) -> list[model.PresenceEvent]:
    return [
        model.VisitStarted(SHOPPER, VISIT, AT, consent),
        model.Entered(SHOPPER, VISIT, "dairy", AT, consent, EVIDENCE),
        model.Dwelled(SHOPPER, VISIT, "dairy", AT, consent, BEFORE, 60_000, EVIDENCE),
        model.Dwelled(SHOPPER, VISIT, "dairy", AT, consent, BEFORE, 60_000, None),
        model.Exited(SHOPPER, VISIT, "dairy", AT, consent, BEFORE, Instant(49_000, 1_790_000_048_000), "silence"),
        model.VisitEnded(SHOPPER, VISIT, AT, consent, BEFORE, AT, 3),
    ]


OFFER = OfferMatched(
    "f0e1d2c3b4a59687", SHOPPER, VISIT, "dairy", "yoghurt", "offer", AT, AT.plus(30_000), True, "group", 600_000, 4
)
CARD = OfferMatched("0011223344556677", SHOPPER, VISIT, "dairy", "wine", "info", AT, AT.plus(30_000), False, "", 0, 4)
WITHHELD = (Withheld("bread", WithheldReason.OUTSIDE_WINDOW),)


def outcome(event: model.PresenceEvent, *offers: OfferMatched) -> Outcome:
    return Outcome(event, offers, WITHHELD, 4)


@pytest.mark.parametrize("consent", [Consent.NONE, Consent.OFFERS])
def test_without_analytics_only_the_offers_themselves_leave(consent: Consent) -> None:
    for event in events(consent):
        assert uplink_rows(outcome(event)) == []
        assert [row.type for row in uplink_rows(outcome(event, OFFER, CARD))] == ["offer.matched.v1"] * 2


@pytest.mark.parametrize("consent", [Consent.ANALYTICS, Consent.ANALYTICS | Consent.OFFERS])
def test_with_analytics_the_event_goes_before_its_offers(consent: Consent) -> None:
    kinds = ["visit.started.v1", "zone.entered.v1", "zone.dwelled.v1", "zone.dwelled.v1", "zone.exited.v1", "visit.ended.v1"]
    for event, kind in zip(events(consent), kinds, strict=True):
        rows = uplink_rows(outcome(event, OFFER))
        assert [row.type for row in rows] == [kind, "offer.matched.v1"]
        assert {row.shopper for row in rows} == {SHOPPER}
        assert {row.at for row in rows} == {AT}


def every_row() -> list[Any]:
    consent = Consent.OFFERS | Consent.ANALYTICS
    return [row for event in events(consent) for row in uplink_rows(outcome(event, OFFER, CARD))]


def test_every_row_is_the_data_of_a_message_of_the_contract() -> None:
    for row in every_row():
        kind = EVENT_TYPES[row.type].model_fields["data"].annotation
        assert type(row.data) is kind
        assert kind.model_validate_json(row.data.model_dump_json()) == row.data


def test_no_signal_strength_no_anchor_and_no_place_is_in_any_uplink() -> None:
    everything = "".join(row.data.model_dump_json() for row in every_row()).lower()
    for word in ("rssi", "dbm", "level", "anchor", "receiver", "fridge", "61.25", "71.5", "runner", "bakery", '"x"', '"y"'):
        assert word not in everything
    # Nor what was not offered to somebody, and why.
    assert "bread" not in everything
    assert "outside_window" not in everything


def test_no_model_of_an_uplink_has_a_field_for_them() -> None:
    for kind in EVENT_TYPES.values():
        names = set(kind.model_fields["data"].annotation.model_fields)  # type: ignore[union-attr]
        assert not names & {"rssi_dbm", "level_dbm", "anchor", "anchors", "x", "y", "position", "address", "token", "evidence"}


def test_times_are_told_as_they_were() -> None:
    rows = {row.type: row.data for row in every_row()}
    exited, dwelled, ended, matched = (
        rows[kind] for kind in ("zone.exited.v1", "zone.dwelled.v1", "visit.ended.v1", "offer.matched.v1")
    )
    assert (exited.entry_time, exited.exit_time, exited.exit_delay) == (BEFORE.wall_ms, 1_790_000_048_000, 12.5)
    assert (dwelled.entry_time, dwelled.dwell_s) == (BEFORE.wall_ms, 60.0)
    assert (ended.started_time, ended.ended_time, ended.zones) == (BEFORE.wall_ms, AT.wall_ms, 3)
    assert (matched.matched_time, matched.deadline) == (AT.wall_ms, AT.wall_ms + 30_000)


def test_a_clock_that_went_backwards_gives_no_negative_delay() -> None:
    event = model.Exited(SHOPPER, VISIT, "dairy", BEFORE, Consent.ANALYTICS, BEFORE, AT, "moved")
    (row,) = uplink_rows(Outcome(event))
    assert row.data.model_dump()["exit_delay"] == 0
