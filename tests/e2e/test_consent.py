"""Nothing about phones without the privacy settings, nothing of strangers ever, nothing more of who opts out."""

import contextlib
import sqlite3

import pytest

from gateway.contract.topics import StoreTopics
from tests.e2e import traces
from tests.e2e.conftest import MakeWorld
from tests.e2e.world import GATEWAY, STORE, World, run_command

TOPICS = StoreTopics(STORE, GATEWAY)
NO_EVENTS = """topic read #
topic write stores/+/up/+/status
topic write stores/+/up/+/telemetry
topic write stores/+/down/#
topic write app/#
topic write central/state
"""
"""The broker keeps central from the gateway's events, so that they wait."""
EVERYTHING = "topic readwrite #\n"


# ---- a fresh installation -----------------------------------------------------------------------------------------------------


async def test_without_privacy_settings_nothing_about_phones_is_kept(make_world: MakeWorld) -> None:
    """Enrolled shopper or stranger: no address, token, pseudonym or roster reaches the gateway's files, a log or the wire; once
    the settings are made, the same shopper gets her offer."""
    world = await make_world(private=False)
    anna = world.phones["anna"]
    world.admit_strangers(20)
    world.walk("anna", "bakery")
    await world.still_heard("anna", 20)
    # Central has sent the roster; were it wanted, it would be here.
    await world.until(lambda: bool(world.wire.messages), "the wire is observed")

    everybody = [anna, *world.strangers]
    needles = traces.addresses(everybody) | traces.tokens(everybody) | traces.pseudonyms(everybody)
    assert (
        traces.found_in(needles, [*traces.gateway_files(world), *traces.logs(world), *traces.wire(world, "stores/+/up/#")]) == []
    )
    assert traces.found_in(traces.addresses(everybody) | traces.tokens(everybody), traces.wire(world)) == []
    assert [name for (name,) in world.gateway_rows("SELECT name FROM snapshot")] == ["catalogue"]
    assert [world.gateway_rows(f"SELECT count(*) FROM {table}")[0][0] for table in ("outbox", "ledger", "offer", "visit")] == [
        0
    ] * 4
    assert "privacy.controller, privacy.contact, privacy.dpia_ack" in world.gateway.log.read_text()

    assert await world.gateway.stop() == 0
    world.write_gateway_config(private=True)
    await world.gateway.start()
    await world.settle()
    world.assert_exactly_once({"anna": ["bread-20"]})


# ---- strangers ----------------------------------------------------------------------------------------------------------------


async def test_strangers_leave_no_trace_and_no_log_names_anybody(make_world: MakeWorld) -> None:
    """200 unknown phones are in the shop beside one shopper: nothing of them anywhere. Of her the pseudonym, in files and events:
    no address, no token, and no log line at INFO or above names her."""
    world = await make_world()
    anna = world.phones["anna"]
    world.admit_strangers(200)
    world.walk("anna", "bakery")
    await world.settle()
    await world.until(lambda: all(stranger.heard > 1 for stranger in world.strangers), "every stranger is heard")
    world.walk("anna", "dairy")
    await world.settle(grants=3)
    world.assert_exactly_once({"anna": ["bread-20", "cheese", "yoghurt-3"]})

    everywhere = [*traces.gateway_files(world), *traces.central_files(world), *traces.logs(world), *traces.wire(world)]
    strangers = traces.addresses(world.strangers) | traces.tokens(world.strangers) | traces.pseudonyms(world.strangers)
    assert traces.found_in(strangers, everywhere) == []
    assert traces.found_in(traces.addresses([anna]) | traces.tokens([anna]), everywhere) == []
    assert traces.found_in(traces.pseudonyms(world.phones.values()), traces.logs(world)) == []
    # The search does find what is there.
    assert traces.found_in(traces.pseudonyms([anna]), traces.gateway_files(world)) != []
    assert {place for place, _ in traces.found_in(traces.pseudonyms([anna]), traces.wire(world))} >= {TOPICS.event}


# ---- opt-out ------------------------------------------------------------------------------------------------------------------


async def offered_but_not_delivered(make_world: MakeWorld) -> World:
    """The shopper is in the shop; her events and her offer wait in the gateway's outbox."""
    world = await make_world(acl=NO_EVENTS)
    world.walk("anna", "bakery")
    await world.until(lambda: "offer.matched.v1" in world.outbox_types(), "events wait")
    return world


def is_recognised(world: World) -> bool:
    return bool(world.gateway_rows("SELECT 1 FROM visit WHERE shopper = ?", world.phones["anna"].pseudonym))


def trace_of_anna(world: World) -> list[tuple[str, bytes]]:
    return traces.found_in(traces.pseudonyms([world.phones["anna"]]), traces.gateway_files(world))


async def assert_forgotten(world: World) -> None:
    """Tombstones stand for what waited; the files know her no more, and however long she stays, nothing new comes."""
    await world.until(lambda: set(world.outbox_types()) == {"tombstone.v1"}, "what waits becomes tombstones")
    await world.until(lambda: trace_of_anna(world) == [], "her pseudonym is gone from the gateway's files")
    tombstones = world.outbox_types()
    await world.still_heard("anna", 20)
    assert world.outbox_types() == tombstones
    assert not is_recognised(world)
    assert trace_of_anna(world) == []


async def assert_numbers_arrive_without_her(world: World) -> None:
    """When the way is free the numbers arrive as tombstones, and the app is told nothing."""
    waiting = len(world.outbox_types())
    (world.folder / "broker" / "acl").write_text(EVERYTHING)
    world.broker.reload()
    await world.gateway.kill()
    await world.gateway.start()
    await world.until(lambda: world.outbox_types() == [], "central has all numbers")
    assert world.central_rows("SELECT type FROM event") == [("tombstone.v1",)] * waiting
    world.assert_exactly_once({})
    assert not world.wire.on("app/#")


async def test_who_opts_out_in_the_shop_is_not_recognised_any_more(make_world: MakeWorld) -> None:
    """Within two seconds of the command; kill −9 changes nothing."""
    world = await offered_but_not_delivered(make_world)
    assert is_recognised(world)
    await world.opt_out("anna")
    await world.until(lambda: not is_recognised(world), "she is recognised no more", within_s=2)
    await assert_forgotten(world)
    await world.gateway.kill()
    assert trace_of_anna(world) == []
    await world.gateway.start()
    await assert_forgotten(world)
    await assert_numbers_arrive_without_her(world)


@pytest.mark.slow
async def test_an_opt_out_while_the_gateway_is_dead_is_heeded_when_it_lives(make_world: MakeWorld) -> None:
    """It comes back with yesterday's knowledge, and learns."""
    world = await offered_but_not_delivered(make_world)
    await world.gateway.kill()
    await world.opt_out("anna")
    await world.until(lambda: bool(world.wire.on(TOPICS.roster_delta)), "central says so")
    await world.gateway.start()
    await assert_forgotten(world)
    await assert_numbers_arrive_without_her(world)


@pytest.mark.slow
async def test_killed_between_taking_the_roster_and_forgetting(make_world: MakeWorld) -> None:
    """The new roster is on disk, her rows are too; the next process erases them, even if it never meets the broker."""
    world = await offered_but_not_delivered(make_world)
    await world.gateway.kill()
    before = len(world.wire.on(f"stores/{STORE}/down/roster/+/+"))
    await world.opt_out("anna")
    # Manifest and chunk of two days.
    await world.until(lambda: len(world.wire.on(f"stores/{STORE}/down/roster/+/+")) >= before + 4, "the new rosters are out")
    rosters = {message.topic: message.payload for message in world.wire.on(f"stores/{STORE}/down/roster/+/+")}
    await world.broker.kill()
    with contextlib.closing(sqlite3.connect(world.gateway_db)) as database, database:
        for topic, payload in rosters.items():
            name = topic.removeprefix(TOPICS.down)
            assert database.execute("UPDATE snapshot SET payload = ? WHERE name = ?", [payload, name]).rowcount == 1
    assert is_recognised(world)

    await world.gateway.start()
    await assert_forgotten(world)
    await world.broker.start()
    await world.until(world.is_broker_there, "the broker listens")
    await assert_numbers_arrive_without_her(world)


def central_database(world: World) -> list[tuple[str, bytes]]:
    """Database, write-ahead log, and copies if there are any."""
    return [(name, octets) for name, octets in traces.central_files(world) if name.startswith("central.db")]


def known_of_anna(world: World) -> set[bytes]:
    """Her inbox, the number of her card and receipt, her key and the day's name."""
    anna = world.phones["anna"]
    return {b"anna", b"928000111222", b"receipt-of-hers", *traces.pseudonyms([anna])}


async def test_central_forgets_everything_of_who_opts_out(make_world: MakeWorld) -> None:
    """Profile, receipt, order, visits, context, offer: a search of every byte of its database finds nothing, although it runs on,
    and what her phone still says is of nobody."""
    world = await make_world()
    config = ("--config", world.folder / "central.toml")
    await run_command("central", "profile", "anna", "--segment", "family", "--card", "928000111222", *config)
    world.walk("anna", "bakery")
    await world.settle()
    await run_command("central", "receipt", "receipt-of-hers", "--card", "928000111222", "--total", "60.00 EUR", *config)
    await run_command("central", "order", "W-anna", "--inbox", "anna", "--state", "ready", *config)
    contexts = f"stores/{STORE}/down/shopper/{world.phones['anna'].pseudonym}"
    await world.until(lambda: len(world.wire.on(contexts)) >= 3, "the gateway is told of her")
    needles = known_of_anna(world)
    assert {needle for _, needle in traces.found_in(needles, central_database(world))} >= {b"anna", b"receipt-of-hers"}

    await world.opt_out("anna")
    await world.until(lambda: traces.found_in(needles, central_database(world)) == [], "central's files know her no more")
    await world.still_heard("anna", 20)
    world.walk("anna", "dairy")
    await world.still_heard("anna", 20)
    assert traces.found_in(needles, central_database(world)) == []
    assert world.central_rows("SELECT count(*) FROM offer") == [(1,)], "what happened stays countable"
