"""Job: a shopper walks past two adapters, and the offer arrives in the inbox: Mosquitto, gateway, central and inbox are real.

    python -m tests.radio.guest.walk

Everything is set up with the command line, as its owner would. The phone advertises its token (form U) to both adapters; walking
is nothing but its RSSI, which changes by the second.
"""

import json
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path
from random import Random

from gateway.core import ad_structures
from gateway.core.ad_structures import FLAGS, AdStructure
from gateway.core.frames import shopper
from gateway.core.model import ShopperToken
from gateway.core.token import (
    FLAG_ANALYTICS,
    FLAG_FOREGROUND,
    FLAG_OFFERS,
    HINT_NONE,
    TokenPayload,
    day_of,
    derive_day_key,
    derive_subkeys,
    seal_token,
    slot_of,
    window_of,
)
from tests.radio.guest.surroundings import (
    FIRST,
    SECOND,
    STATE,
    Adapter,
    Json,
    call,
    configure,
    journal,
    leave,
    powered,
    say,
    start_bluetooth,
    start_gateway,
    status,
    wait_until,
)

STORE, STORE_NUMBER = "lab", 4711
WORK = Path("/root/central")
CENTRAL = WORK / "central.toml"
NEAR_DBM, FAR_DBM = -52, -86
WALK_S = 8

_SHOP: Json = {
    "zones": {"bakery": {"neighbours": ["dairy"]}, "dairy": {"neighbours": ["bakery"]}},
    "anchors": {"at-bakery": {"kind": "receiver", "zone": "bakery"}, "at-dairy": {"kind": "receiver", "zone": "dairy"}},
}
_PROMOTIONS: Json = {
    "promotions": [
        {"promotion_id": "bread-20", "long_title": {"en": "20 % off bread"}, "zones": ["bakery"], "deadline_s": 300},
        {"promotion_id": "cheese", "kind": "info", "long_title": {"en": "New cheese"}, "zones": ["dairy"], "deadline_s": 300},
    ]
}


def day_start_s(wall_s: float) -> int:
    """A beginning of the store's day that is twelve hours away, so that nobody's pseudonym changes meanwhile."""
    return (int(wall_s) // 900 * 900 + 43_200) % 86_400


class Phone:
    """Advertises the token of its owner, new each minute, under one address."""

    def __init__(self, ku: bytes, day_start: int, adapters: dict[str, Adapter]) -> None:
        self._ku = ku
        self._day_start = day_start
        self._adapters = adapters
        self._rng = Random(1)
        self.path: list[Json] = []

    def advertise(self, levels_dbm: dict[str, int]) -> None:
        """At these levels from now on."""
        now_s = time.time()
        window = window_of(now_s)
        subkeys = derive_subkeys(derive_day_key(self._ku, STORE_NUMBER, day_of(window, self._day_start)))
        payload = TokenPayload(FLAG_OFFERS | FLAG_ANALYTICS | FLAG_FOREGROUND, slot_of(now_s), 0, HINT_NONE)
        token = ShopperToken("U", seal_token(subkeys, window, payload), None)
        data = ad_structures.encode([AdStructure(FLAGS, b"\x1a"), shopper.encode(token)]).hex()
        for name, adapter in self._adapters.items():
            adapter.order(name="phone", address="C0:00:00:00:02:01", data=data, rssi=levels_dbm[name], interval_ms=200)
        self.path.append({"at_ms": round(now_s * 1000), **levels_dbm})

    def leave(self) -> None:
        """Out of the door."""
        for adapter in self._adapters.values():
            adapter.order(name="phone", count=0)


def command(*words: str) -> str:
    """The gateway's command line."""
    return call("/usr/local/bin/gateway", *words)


def set_up_central(day_start: int) -> tuple[str, bytes]:
    """Key, promotions, one enrolled app: the public key and the app's key."""
    WORK.mkdir(mode=0o700)
    CENTRAL.write_text(
        f'state_dir = "{WORK / "state"}"\noffer_resend_s = 5\n[stores.{STORE}]\n'
        f"store_number = {STORE_NUMBER}\nday_start_s = {day_start}\n"
    )
    key = command("central", "key", "--config", str(CENTRAL)).strip()
    (WORK / "promotions.json").write_text(json.dumps(_PROMOTIONS))
    command("central", "promotions", str(WORK / "promotions.json"), "--store", STORE, "--config", str(CENTRAL))
    file = WORK / "anna.key"
    command("central", "enrol", "anna", "--store", STORE, "--key-file", str(file), "--config", str(CENTRAL))
    return key, bytes.fromhex(file.read_text())


def run(name: str, *words: str) -> subprocess.Popen[bytes]:
    """A program of the command line, what it says in two files."""
    with (WORK / f"{name}.out").open("wb") as said, (WORK / f"{name}.log").open("wb") as log:
        return subprocess.Popen(["/usr/local/bin/gateway", *words], stdin=subprocess.DEVNULL, stdout=said, stderr=log)


def shown() -> list[Json]:
    """What the app has shown, as the inbox prints it."""
    return [json.loads(line) for line in (WORK / "anna.out").read_text().splitlines()]


def events() -> list[Json]:
    """What central has of this gateway, in order."""
    with closing(sqlite3.connect(f"file:{WORK / 'state/central.db'}?mode=ro", uri=True, timeout=10)) as database:
        rows = database.execute("SELECT type, data FROM event ORDER BY epoch, seq").fetchall()
    return [{"type": kind, "zone": json.loads(data).get("zone")} for kind, data in rows]


def has_roster() -> bool:
    """Whether the gateway knows today's shoppers and the promotions."""
    said = status()
    return said is not None and said["roster_size"] > 0 and said["catalogue"] is not None


def has_shown(promotion: str) -> bool:
    """Whether the offer has arrived."""
    return any(offer["data"]["promotion_id"] == promotion for offer in shown())


def has_event(kind: str, zone: str) -> bool:
    """Whether central has it."""
    return any(kind in event["type"] and event["zone"] == zone for event in events())


def main() -> None:
    """Set up, walk in, walk over, walk out."""
    day_start = day_start_s(time.time())
    call("systemctl", "start", "mosquitto")
    start_bluetooth(experimental=True)
    adapters = {"at-bakery": Adapter(FIRST), "at-dairy": Adapter(SECOND)}
    key, ku = set_up_central(day_start)
    say("central is set up")
    run("central", "central", "--config", str(CENTRAL))
    run("anna", "central", "inbox", "anna", "--json", "--config", str(CENTRAL), "--file", str(WORK / "anna.db"))
    assert all(wait_until(lambda hci=one.hci: powered(hci), 60) is not None for one in adapters.values())  # type: ignore[misc]
    receivers = "".join(f'[[receivers]]\nname = "{name}"\nadapter = "{one.address}"\n' for name, one in adapters.items())
    configure(
        f'store = "{STORE}"\nstore_number = {STORE_NUMBER}\nday_start_s = {day_start}\ngateway = "pi-1"\n'
        f'[trust]\npublic_keys = ["{key}"]\n[clock]\nassume_synchronised = true\n'
        f'[privacy]\ncontroller = "Lab"\ncontact = "lab@example.org"\ndpia_ack = true\n{receivers}',
        _SHOP,
    )
    start_gateway(helper=True)
    ready_s = wait_until(has_roster, 240)
    scan_s = wait_until(lambda: all(one.scans for one in adapters.values()), 120)
    say("ready", ready_s, scan_s, status())
    assert ready_s is not None, journal("gateway")[-3000:] + (WORK / "central.log").read_text()[-2000:]
    assert scan_s is not None, journal("gateway")[-3000:]

    phone = Phone(ku, day_start, adapters)
    in_bakery = {"at-bakery": NEAR_DBM, "at-dairy": FAR_DBM}
    phone.advertise(in_bakery)
    bread_s = wait_until(lambda: has_shown("bread-20"), 120)
    say("bread", bread_s)
    for step in range(WALK_S + 1):
        part = round((NEAR_DBM - FAR_DBM) * step / WALK_S)
        phone.advertise({"at-bakery": NEAR_DBM - part, "at-dairy": FAR_DBM + part})
        time.sleep(1)
    cheese_s = wait_until(lambda: has_shown("cheese"), 120)
    say("cheese", cheese_s)
    dairy_s = wait_until(lambda: has_event("zone.entered", "dairy"), 60)
    phone.leave()
    said = status()
    leave(
        {
            "bread_s": bread_s,
            "cheese_s": cheese_s,
            "dairy_s": dairy_s,
            "shown": shown(),
            "events": events(),
            "path": phone.path,
            "sent": {name: one.counts()["counts"]["phone"] for name, one in adapters.items()},
            "status": said,
            "journal": journal("gateway")[-8000:],
            "files": sorted(path.name for path in STATE.iterdir()),
        }
    )


if __name__ == "__main__":
    main()
