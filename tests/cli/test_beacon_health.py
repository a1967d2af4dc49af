"""`gateway beacon health` and `relearn`, and what central shows: with a running gateway, without one, and as a table."""

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gateway.central import records
from gateway.central.records import CENTRAL, Fares
from gateway.cli.beacon_health import screen
from gateway.contract.control import BeaconsHealth
from gateway.contract.fields import to_rfc3339
from gateway.contract.messages import read_event
from gateway.io.store.database import transact
from tests.cli.forked import Done, Forked
from tests.contract.examples import EVENTS
from tests.daemon.test_beacons import Gateway, keep_catalogue, promotion

SETTINGS = 'store = "demo"\nstore_number = 1\ngateway = "pi-1"\nstate_dir = "{folder}"\n[broker]\nhost = "127.0.0.1"\nport = 1\n'
LINK: dict[str, Any] = {
    "receiver": "door",
    "level_dbm": -61.5,
    "baseline_dbm": -60.0,
    "rate_hz": 9.8,
    "usual_rate_hz": 10.0,
    "loss": 0.021,
}
MILK: dict[str, Any] = {
    "name": "milk",
    "zone": "dairy",
    "state": "ok",
    "since_s": 7260.0,
    "heard_s_ago": 0.2,
    "links": [LINK, {"receiver": "back"}],
    "battery": {"state": "low", "volts": 2.41, "percent": 12, "temperature_c": 6.5, "days_left_least": 3, "days_left_most": 20},
    "reboots": 1,
    "promotions": ["yoghurt", "cheese"],
    "paused": True,
}
RED: dict[str, Any] = {"name": "red", "zone": "wine", "state": "learning", "since_s": 4.0, "battery": {"state": "unknown"}}
DOOR: dict[str, Any] = {"name": "door", "hearing": "hearing", "since_s": 3600.0, "canaries": 4, "silent": 1, "shift_db": -2.5}


def test_the_table_has_a_row_for_each_beacon_and_receiver() -> None:
    health = BeaconsHealth.model_validate(
        {
            "beacons": [MILK, {**RED, "reboots": 0, "paused": False}],
            "receivers": [DOOR, {**DOOR, "name": "back", "hearing": "unknown", "canaries": 0, "silent": 0, "shift_db": 0.0}],
            "blind_zones": [{"name": "dairy", "promotions": ["yoghurt", "cheese"]}, {"name": "wine"}],
        }
    )
    lines = screen(health)
    assert [" ".join(line.split()) for line in lines[:4]] == [
        "beacon zone state since receiver dBm usual heard/s usual lost battery promotions",
        "milk dairy ok 2 h 1 min door -61.5 -60 9.8 10 2.1% LOW, 2.41 V, 12 %, 6.5 °C, 3 to 20 days left paused: yoghurt, cheese",
        "back – – – – –",
        "red wine learning 4 s nobody – – – – – – –",
    ]
    assert lines[4:] == [
        "",
        "receiver door: hearing for 1 h, 4 beacons to tell by, 1 of them silent, all 2.5 dB fainter",
        "receiver back: unknown for 1 h, no beacon to tell by",
        "nobody can be heard in dairy: its promotions pause: yoghurt, cheese",
        "nobody can be heard in wine: no promotion hangs on it",
    ]


def test_a_shop_without_beacons_says_how_to_get_one() -> None:
    assert screen(BeaconsHealth()) == ["no beacons yet; add one: gateway beacon add NAME --zone ZONE"]


async def test_a_running_gateway_is_asked(gateway: Forked, tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text(SETTINGS.format(folder=tmp_path))

    async def run(*arguments: object) -> Done:
        return await asyncio.to_thread(gateway.run, *arguments, "--config", config)

    world = Gateway(tmp_path)
    await keep_catalogue(world, promotion("yoghurt", "dairy"))
    async with world() as running:
        await running.time_passes(70)
        table = await run("beacon", "health")
        assert table.returncode == 0, table.stderr
        first = [line.split()[0] for line in table.stdout.splitlines() if line]
        assert first == ["beacon", "cheese", "milk", "red", "receiver"]
        found = BeaconsHealth.model_validate((await run("beacon", "health", "milk", "--json")).json)
        assert [(beacon.name, beacon.promotions) for beacon in found.beacons] == [("milk", ("yoghurt",))]
        wrong = await run("beacon", "health", "mlk")
        assert (wrong.returncode, wrong.stdout) == (2, "")
        assert "there is no beacon mlk; did you mean milk?" in wrong.stderr
        done = await run("beacon", "relearn", "milk")
        assert done.stdout == "milk is learnt anew; whether it moves, fades or is covered is known again in half an hour.\n"
        for name in ("mlk", "No Name"):
            wrong = await run("beacon", "relearn", name)
            assert wrong.returncode == 2
            assert "there is no beacon" in wrong.stderr


@pytest.mark.parametrize("command", [["health"], ["relearn", "milk"]])
def test_without_a_running_gateway_nobody_hears_beacons(gateway: Forked, tmp_path: Path, command: list[str]) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text(SETTINGS.format(folder=tmp_path))
    done = gateway.run("beacon", *command, "--config", config)
    assert (done.returncode, done.stdout) == (75, "")
    assert "no gateway is running" in done.stderr


def test_central_shows_what_gateways_told_last(gateway: Forked, tmp_path: Path) -> None:
    config = tmp_path / "central.toml"
    config.write_text(f'state_dir = "{tmp_path}"\n[stores.demo]\nstore_number = 1\n[stores.other]\nstore_number = 2\n')
    assert gateway.run("central", "health", "--config", config).stdout == (
        "no gateway has told of a beacon or a receiver that is not as usual\n"
    )
    silent = {"beacon": "milk", "zone": "dairy", "battery_v": 2.31}
    deaf = {"receiver": "door", "cause": "heard nothing.", "step": "power-cycle", "helped": False}

    def keep(db: Any) -> None:
        records.keep_health(db, Fares("demo", "beacon", "milk", "pi-1", "silent", 1_790_000_000_000, json.dumps(silent)))
        records.keep_health(db, Fares("other", "receiver", "door", "pi-2", "deaf", 1_790_000_060_000, json.dumps(deaf)))

    transact(tmp_path / "central.db", CENTRAL, keep)
    lines = gateway.run("central", "health", "--config", config).stdout.splitlines()
    assert [" ".join(line.split()) for line in lines[1:]] == [
        "demo beacon milk dairy silent 2026-09-21T14:13:20.000Z 2.31 V",
        "other receiver door – deaf 2026-09-21T14:14:20.000Z heard nothing. (power-cycle did not help)",
    ]
    (only,) = gateway.run("central", "health", "--store", "demo", "--json", "--config", config).json["fares"]
    assert (only["subject"], only["name"], only["state"], only["data"]) == ("beacon", "milk", "silent", silent)
    wrong = gateway.run("central", "health", "--store", "nowhere", "--config", config)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    with closing(sqlite3.connect(tmp_path / "central.db")) as connection:
        assert connection.execute("SELECT count(*) FROM health").fetchone() == (2,)


def test_central_shows_what_gateways_gave_up(gateway: Forked, tmp_path: Path) -> None:
    config = tmp_path / "central.toml"
    config.write_text(f'state_dir = "{tmp_path}"\n[stores.demo]\nstore_number = 1\n[stores.other]\nstore_number = 2\n')
    told = [("demo", "pi-1", "dropped"), ("demo", "pi-1", "erased"), ("demo", "pi-1", "dropped"), ("other", "pi-2", "dropped")]

    def keep(db: Any) -> None:
        for number, (store, pi, reason) in enumerate(told, 1):
            at_ms = 1_790_000_000_000 + 60_000 * number
            event = {**EVENTS["tombstone.v1"], "seq": number, "time": to_rfc3339(at_ms), "data": {"reason": reason}}
            records.keep_event(db, store, pi, read_event(json.dumps(event).encode(), "test"), at_ms)

    transact(tmp_path / "central.db", CENTRAL, keep)
    asks = "gateway doctor there may say why"
    here = f"gateway pi-1 of store demo gave up 2 events (2026-09-21T14:14:20Z … 2026-09-21T14:16:20Z): {asks}"
    there = f"gateway pi-2 of store other gave up 1 event (2026-09-21T14:17:20Z … 2026-09-21T14:17:20Z): {asks}"
    assert gateway.run("central", "health", "--config", config).stdout.splitlines()[1:] == [here, there]
    assert gateway.run("central", "health", "--store", "demo", "--config", config).stdout.splitlines()[1:] == [here]
    assert gateway.run("central", "health", "--json", "--config", config).json == {"fares": []}
