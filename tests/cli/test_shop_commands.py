"""`gateway zone | beacon | receiver | shop`: a technician edits the shop, while the gateway runs and while it does not."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.contract.shop import ShopFile, read_shop
from gateway.core.positioning import ground_of
from gateway.daemon.zone_models import put
from tests.cli.forked import Done, Forked
from tests.cli.two_accounts import SERVICE, give_away, needs_root, owners, two_accounts

PROGRAM = Path(sys.executable).with_name("gateway")
ROOT = Path(__file__).parents[2]
UUID = "8b1f4a0e-5d9c-4c7b-a1e3-0d5f6a7b8c9d"
SHOP: dict[str, Any] = {
    "zones": {
        "entrance": {"title": "Eingang", "neighbours": ["dairy"]},
        "dairy": {"tags": ["food", "chilled"], "neighbours": ["entrance", "wine"], "exit_delay_s": 90},
        "wine": {"sensitive": True, "neighbours": ["dairy"]},
        "cellar": {},
    },
    "anchors": {
        "door": {"kind": "receiver", "zone": "entrance", "covers": ["dairy", "wine"]},
        "ceiling": {"kind": "receiver", "covers": ["wine"]},
        "shelf-7": {"kind": "beacon", "zone": "dairy", "uuid": UUID, "major": 3, "minor": 107},
    },
}
KEPT = "kept; the gateway is not running and will use it when it starts"


class Shop:
    """A gateway that does not run, and the commands for it."""

    def __init__(self, gateway: Forked, folder: Path, document: dict[str, Any] | None, more: str = "") -> None:
        self.gateway = gateway
        self.state = folder / "state"
        self.config = folder / "gateway.toml"
        self.file = self.state / "shop.json"
        self.state.mkdir()
        self.config.write_text(
            f'store = "demo"\nstore_number = 4711\ngateway = "pi-1"\nstate_dir = "{self.state}"\n'
            f'[broker]\nhost = "127.0.0.1"\nport = 1\n[chain]\nbeacon_uuid = "{UUID}"\n{more}',
            encoding="utf-8",
        )
        if document is not None:
            self.file.write_text(json.dumps(document), encoding="utf-8")

    def __call__(self, command: str, *more: object, stdin: bytes = b"") -> Done:
        return self.gateway.run(*command.split(), *more, "--config", self.config, stdin=stdin)

    def kept(self) -> ShopFile:
        """What is in the file."""
        return read_shop(self.file.read_bytes(), "shop.json")


@pytest.fixture
def shop(gateway: Forked, tmp_path: Path) -> Shop:
    return Shop(gateway, tmp_path, SHOP)


@pytest.fixture
def empty(gateway: Forked, tmp_path: Path) -> Shop:
    return Shop(gateway, tmp_path, None)


def refused(done: Done, code: int, *words: str) -> None:
    """One sentence, this code, and nothing on standard output."""
    assert (done.returncode, done.stdout) == (code, ""), done
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("gateway: ")
    for word in words:
        assert word in lines[0]


# ---- a shop from nothing ------------------------------------------------------------------------------------------------------


def test_a_shop_is_made_by_three_commands(empty: Shop) -> None:
    assert empty("zone list").stdout == "no zones yet; add one: gateway zone add NAME\n"
    assert empty("beacon list").stdout == "no beacons yet; add one: gateway beacon add NAME --zone ZONE\n"
    done = empty("zone add dairy --title Dairy --tag chilled --tag food --dwell-s 30 --dwell-s 60")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[:2] == ["added    zone dairy", KEPT]
    assert "next: nobody is located in dairy before an anchor stands there" in done.stdout
    done = empty("beacon add shelf-1 --zone dairy")
    assert done.stdout.splitlines() == [
        "added    beacon shelf-1",
        KEPT,
        f"next: let it transmit iBeacon {UUID}, major 1, minor 1",
    ]
    assert empty("receiver add pi --zone dairy").stdout.splitlines() == ["added    receiver pi", KEPT]
    assert empty.kept() == ShopFile.model_validate(
        {
            "zones": {"dairy": {"title": "Dairy", "tags": ["chilled", "food"], "dwell_s": [30, 60]}},
            "anchors": {
                "shelf-1": {"kind": "beacon", "zone": "dairy", "uuid": UUID, "major": 1, "minor": 1},
                "pi": {"kind": "receiver", "zone": "dairy"},
            },
        }
    )


def test_neighbours_are_neighbours_of_each_other(shop: Shop) -> None:
    done = shop("zone add bakery --neighbour entrance --neighbour cellar")
    assert done.stdout.splitlines()[:3] == [
        "added    zone bakery",
        "changed  zone cellar: neighbours – → bakery",
        "changed  zone entrance: neighbours dairy → bakery+dairy",
    ]
    zones = shop.kept().zones
    assert (zones["bakery"].neighbours, zones["cellar"].neighbours) == (("entrance", "cellar"), ("bakery",))
    assert set(zones["entrance"].neighbours or ()) == {"dairy", "bakery"}
    shop("zone add bakery --replace --neighbour wine")
    zones = shop.kept().zones
    assert (zones["bakery"].neighbours, zones["cellar"].neighbours) == (("wine",), ())
    assert (zones["entrance"].neighbours, zones["wine"].neighbours) == (("dairy",), ("dairy", "bakery"))
    shop("zone add bakery --replace --no-neighbours")
    assert (shop.kept().zones["bakery"].neighbours, shop.kept().zones["wine"].neighbours) == ((), ("dairy",))


def test_replace_changes_what_is_named_and_keeps_the_rest(shop: Shop) -> None:
    refused(shop("zone add dairy --title Milk"), 2, "the zone dairy exists already", "--replace")
    assert shop("zone add dairy --title Milk --replace").stdout.splitlines()[0] == 'changed  zone dairy: title – → "Milk"'
    dairy = shop.kept().zones["dairy"]
    assert (dairy.title, dairy.tags, dairy.neighbours, dairy.exit_delay_s) == (
        "Milk",
        ("food", "chilled"),
        ("entrance", "wine"),
        90,
    )
    shop("zone add wine --replace --not-sensitive --enter-dbm -80.5 --exit-delay-s 60")
    wine = shop.kept().zones["wine"]
    assert (wine.sensitive, wine.enter_dbm, wine.exit_delay_s) == (False, -80.5, 60)
    shop("beacon add shelf-7 --zone wine --replace")
    shop("receiver add ceiling --zone wine --replace")
    anchors = shop.kept().anchors
    assert anchors["shelf-7"].model_dump(exclude_none=True) == {**SHOP["anchors"]["shelf-7"], "zone": "wine"}
    assert anchors["ceiling"].model_dump() == {"kind": "receiver", "zone": "wine", "covers": ("wine",), "at": None}


def test_commands_at_the_same_time_lose_nothing(shop: Shop) -> None:
    """Each is done whole, or refused because another one was quicker."""
    names = [f"z{number}" for number in range(8)]
    command = [sys.executable, "-c", "from gateway.cli import main; main()", "zone", "add"]
    running = [
        subprocess.Popen([*command, name, "--config", shop.config], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for name in names
    ]
    said = [process.communicate(timeout=100)[1] for process in running]
    codes = {name: process.returncode for name, process in zip(names, running, strict=True)}
    assert set(codes.values()) <= {0, 75}, said
    assert 0 in codes.values(), said
    assert all("changed by somebody else" in each for each, code in zip(said, codes.values(), strict=True) if code == 75)
    assert shop.kept().zones.keys() == {*SHOP["zones"], *(name for name, code in codes.items() if code == 0)}


def test_what_is_as_it_was_is_not_written_again(shop: Shop) -> None:
    before = shop.file.stat()
    done = shop("zone add dairy --tag chilled --tag food --replace")
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "nothing to change")
    assert (shop.file.stat().st_ino, shop.file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_new_beacon_has_the_next_minor_and_the_usual_major(shop: Shop) -> None:
    assert shop("beacon add shelf-8 --zone dairy --json").json["beacon"] == {
        "name": "shelf-8", "zone": "dairy", "uuid": UUID, "major": 3, "minor": 108, "at": None,
        "namespace": None, "instance": None, "beacon_id": None,
    }  # fmt: skip
    shop("beacon add last --zone dairy --minor 65534")
    # Above the highest there is none: the lowest that is free.
    assert shop("beacon add shelf-9 --zone dairy --json").json["beacon"]["minor"] == 1
    other = "00000000-0000-4000-8000-00000000000A"
    made = shop("beacon add shelf-10 --zone dairy --json --major 0 --uuid", other).json["beacon"]
    assert (made["uuid"], made["major"]) == (other.lower(), 0)


def test_a_beacon_that_is_no_ibeacon_is_registered_by_what_it_sends(shop: Shop) -> None:
    namespace, instance, beacon_id = "EDD1EBEAC04E5DEFA017", "0123456789ab", "2f234454cf6d4a0fadf2f4911ba9ffa600010002"
    assert shop("beacon add milk --zone dairy --namespace", namespace, "--instance", instance).stdout.splitlines() == [
        "added    beacon milk",
        KEPT,
        f"next: let it transmit Eddystone-UID namespace {namespace.lower()}, instance {instance}",
    ]
    made = shop("beacon add cork --zone wine --json --beacon-id", beacon_id).json["beacon"]
    assert made == {
        "name": "cork", "zone": "wine", "uuid": None, "major": None, "minor": None, "at": None,
        "namespace": None, "instance": None, "beacon_id": beacon_id,
    }  # fmt: skip
    assert [line.split() for line in shop("beacon list").stdout.splitlines()] == [
        ["beacon", "zone", "uuid", "major", "minor", "namespace", "instance", "beacon", "id"],
        ["cork", "wine", "–", "–", "–", "–", "–", beacon_id],
        ["milk", "dairy", "–", "–", "–", namespace.lower(), instance, "–"],
        ["shelf-7", "dairy", UUID, "3", "107", "–", "–", "–"],
    ]
    text = shop("shop export").stdout
    assert f'"milk": {{"kind": "beacon", "zone": "dairy", "namespace": "{namespace.lower()}", "instance": "{instance}"}}' in text
    assert shop("shop import -", stdin=text.encode()).stdout == "nothing to change\n"
    # The next iBeacon is numbered after iBeacons alone.
    assert shop("beacon add shelf-8 --zone dairy --json").json["beacon"]["minor"] == 108


def test_a_beacon_that_gets_the_key_of_another_format_loses_the_one_it_had(shop: Shop) -> None:
    done = shop("beacon add shelf-7 --replace --beacon-id", "00" * 20)
    assert done.stdout.splitlines()[-1] == f"next: let it transmit AltBeacon beacon id {'00' * 20}"
    assert shop.kept().anchors["shelf-7"].model_dump(exclude_none=True) == {
        "kind": "beacon", "zone": "dairy", "beacon_id": "00" * 20,
    }  # fmt: skip
    refused(shop("beacon add shelf-7 --replace --minor 5"), 2, "the key of an iBeacon needs uuid and major, too")
    assert shop(f"beacon add shelf-7 --replace --uuid {UUID} --major 3 --minor 107").returncode == 0
    assert shop.kept().compiled() == ShopFile.model_validate(SHOP).compiled()


def test_places_are_written_down_shown_and_listed(shop: Shop) -> None:
    """A zone's corners, where receivers and beacons hang: given, changed, exported, and shown as they are typed."""
    shop("zone add office --corner 0,0 --corner 4,0 --corner 4,3.5 --corner 0,3.5")
    assert shop.kept().zones["office"].corners == ((0, 0), (4, 0), (4, 3.5), (0, 3.5))
    assert "corners       0,0, 4,0, 4,3.5, 0,3.5" in shop("zone show office").stdout.splitlines()
    moved = shop("zone add office --replace --corner 0,0 --corner 4,0 --corner 4,3").stdout
    assert moved.splitlines()[0] == "changed  zone office: corners 0,0+4,0+4,3.5+0,3.5 → 0,0+4,0+4,3"
    assert shop("receiver add door --at 1.5,-2 --replace").stdout.splitlines()[0] == "changed  receiver door: at – → 1.5,-2"
    assert shop("beacon add shelf-8 --zone dairy --at 3,1 --json").json["beacon"]["at"] == [3, 1]
    assert [line.split()[-1] for line in shop("beacon list").stdout.splitlines()] == ["at", "–", "3,1"]
    assert next(line for line in shop("receiver list").stdout.splitlines() if line.startswith("door")).endswith("1.5,-2")
    text = shop("shop export").stdout
    assert '"at": [1.5, -2.0]' in text
    assert shop("shop import -", stdin=text.encode()).stdout == "nothing to change\n"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("zone add office --corner 0,0 --corner 4,0", "zones.office.corners"),
        ("zone add office --corner 1,2 --corner 1,2 --corner 1,2", "zones.office.corners: the outline encloses nothing"),
        (
            "zone add office --corner 0,0 --corner 2,2 --corner 0,2 --corner 2,0",
            "zones.office.corners: the outline crosses itself",
        ),
        ("zone add office --corner 0;0", "is no place"),
        ("receiver add door --replace --at 1.5", "is no place"),
        ("beacon add shelf-7 --replace --at x,y", "is no place"),
        ("receiver add door --replace --at 99999,0", "anchors.door"),
    ],
)
def test_what_is_no_place_is_refused(shop: Shop, command: str, words: str) -> None:
    done = shop(command)
    assert done.returncode == 2
    assert words in done.stderr
    assert json.loads(shop.file.read_text()) == SHOP


def test_a_beacon_needs_a_uuid_from_somewhere(gateway: Forked, tmp_path: Path) -> None:
    shop = Shop(gateway, tmp_path, SHOP)
    shop.config.write_text(shop.config.read_text().partition("[chain]")[0])
    refused(shop("beacon add shelf-8 --zone dairy"), 2, "its UUID is not known", "--uuid", "chain.beacon_uuid")


# ---- removing -----------------------------------------------------------------------------------------------------------------


def test_a_zone_in_use_is_not_removed_and_what_hangs_on_it_is_named(shop: Shop) -> None:
    refused(shop("zone remove dairy"), 2, "the zone dairy is in use", "door, shelf-7", "--cascade")
    refused(shop("zone remove wine"), 2, "ceiling, door")
    assert json.loads(shop.file.read_text()) == SHOP


def test_a_zone_takes_with_it_what_would_mean_nothing_without_it(shop: Shop) -> None:
    done = shop("zone remove wine --cascade")
    assert done.stdout.splitlines() == [
        "changed  zone dairy: neighbours entrance+wine → entrance",
        "changed  receiver door: covers dairy+wine → dairy",
        "removed  zone wine",
        # It covered nothing else, and a receiver without any zone would count as hearing the whole shop.
        "removed  receiver ceiling",
        KEPT,
    ]
    changed = shop("zone remove dairy --cascade --json").json
    assert (changed["zones_removed"], changed["anchors_removed"]) == (["dairy"], ["shelf-7"])
    assert (changed["zones_changed"], changed["anchors_changed"]) == (["entrance"], ["door"])
    kept = shop.kept()
    assert kept.zones["entrance"].neighbours == ()
    assert kept.anchors["door"].model_dump() == {"kind": "receiver", "zone": "entrance", "covers": (), "at": None}


def test_a_zone_that_only_neighbours_know_goes_without_asking(shop: Shop) -> None:
    shop("zone add bakery --neighbour entrance")
    assert shop("zone remove bakery").stdout.splitlines() == [
        "changed  zone entrance: neighbours bakery+dairy → dairy",
        "removed  zone bakery",
        KEPT,
    ]


def test_anchors_are_removed(shop: Shop) -> None:
    assert shop("beacon remove shelf-7").stdout.splitlines() == ["removed  beacon shelf-7", KEPT]
    assert shop("receiver remove ceiling --json").json["anchors_removed"] == ["ceiling"]
    assert set(shop.kept().anchors) == {"door"}


# ---- looking ------------------------------------------------------------------------------------------------------------------


def test_zones_are_listed_in_columns(shop: Shop) -> None:
    assert shop("zone list").stdout.splitlines() == [
        "zone      title    anchors  neighbours      tags           sensitive",
        "cellar    cellar   –        –               –              no",
        "dairy     dairy    shelf-7  entrance, wine  chilled, food  no",
        "entrance  Eingang  door     dairy           –              no",
        "wine      wine     –        dairy           –              yes",
    ]


def test_a_zone_is_shown_with_what_belongs_to_it(shop: Shop) -> None:
    done = shop("zone show wine")
    assert done.stdout.splitlines() == [
        "name          wine", "title         wine", "tags          none", "neighbours    dairy", "sensitive     yes",
        "enter_dbm     as usual", "enter_after_s as in the settings", "exit_delay_s  120", "stale_s       as exit_delay_s",
        "dwell_s       60", "corners       not drawn", "anchors       none", "covered_by    ceiling, door",
        "promotions    central has sent no catalogue yet.",
    ]  # fmt: skip
    assert "neighbours    not known" in shop("zone show cellar").stdout


def test_receivers_are_those_of_the_shop_and_of_the_settings(gateway: Forked, tmp_path: Path) -> None:
    more = '[[receivers]]\nname = "door"\nadapter = "hci1"\n[[receivers]]\nname = "back"\n'
    shop = Shop(gateway, tmp_path, {**SHOP, "anchors": {**SHOP["anchors"], "roof": {"kind": "receiver"}}}, more)
    assert shop("receiver list").stdout.splitlines() == [
        "receiver  zone      covers       adapter  remark",
        "ceiling   –         wine         –        not of this machine",
        "door      entrance  dairy, wine  hci1     –",
        "roof      –         –            –        hears the whole shop; not of this machine",
        "back      –         –            default  stands nowhere: gateway receiver add back --zone ZONE",
    ]
    views = {view["name"]: view for view in shop("receiver list --json").json["receivers"]}
    assert (views["back"]["in_shop"], views["back"]["in_settings"]) == (False, True)
    assert (views["ceiling"]["in_shop"], views["ceiling"]["in_settings"]) == (True, False)
    assert shop("receiver add back --zone wine").stdout.splitlines() == ["added    receiver back", KEPT]
    assert "note: attic is no adapter of this machine" in shop("receiver add attic --zone wine").stdout


def test_foreign_receivers_are_receivers(gateway: Forked, tmp_path: Path) -> None:
    """One of them is named in the settings, the other has what nobody else claims; the shop does not know all of them."""
    more = (
        '[[receivers]]\nname = "door"\nadapter = "hci1"\n'
        '[[foreign_receivers]]\nname = "walls"\nkind = "raddec"\nreceivers = { 0a = "roof", 0b = "attic" }\n'
        '[[foreign_receivers]]\nname = "rooms"\nkind = "espresense"\n'
    )
    shop = Shop(gateway, tmp_path, {**SHOP, "anchors": {**SHOP["anchors"], "roof": {"kind": "receiver", "zone": "wine"}}}, more)
    assert shop("receiver list").stdout.splitlines() == [
        "receiver  zone      covers       adapter  remark",
        "ceiling   –         wine         rooms    –",
        "door      entrance  dairy, wine  hci1     –",
        "roof      wine      –            walls    –",
        "attic     –         –            walls    stands nowhere: gateway receiver add attic --zone ZONE",
    ]
    views = {view["name"]: view for view in shop("receiver list --json").json["receivers"]}
    assert [(views[name]["foreign"], views[name]["gateway"]) for name in ("door", "roof", "ceiling")] == [
        (None, None),
        ("walls", None),
        ("rooms", None),
    ]
    status, checks = (json.loads(shop(f"{command} --json").stdout) for command in ("status", "doctor"))
    assert [receiver["name"] for receiver in status["receivers"]] == ["door", "roof", "attic", "ceiling"]
    assert "receiver attic stands nowhere" in [check["found"] for check in checks["checks"]]
    assert "note:" not in shop("receiver add attic --zone wine").stdout


def warned_of(shop: Shop) -> list[str]:
    """The zones in which nobody can ever be, as doctor sees it."""
    checks = json.loads(shop("doctor --json").stdout)["checks"]
    return [check["found"].split()[1] for check in checks if "nobody can ever be in it" in check["found"]]


def test_doctor_warns_of_the_zones_in_which_nobody_can_be_located(gateway: Forked, tmp_path: Path) -> None:
    """An anchor locates shoppers where it stands; so do positions and a learnt model, also where none stands."""
    corners = {"entrance": (0, 0), "dairy": (10, 0), "wine": (0, 10), "cellar": (10, 10)}
    drawn = {zone: {"corners": [[x, y], [x + 9, y], [x + 9, y + 9], [x, y + 9]]} for zone, (x, y) in corners.items()}
    placed = {f"r{n}": {"kind": "receiver", "zone": "entrance", "at": [n * 6, n * n]} for n in range(4)}
    unplaced = {name: {**anchor, "at": None} for name, anchor in placed.items()}
    deaf = {"milk": {"kind": "beacon", "zone": "dairy", "beacon_id": "00" * 20}}
    shop = Shop(gateway, tmp_path, {"zones": drawn, "anchors": {**unplaced, **deaf}})
    assert warned_of(shop) == ["cellar", "dairy", "wine"]
    assert "next: nobody is located in cellar" in shop("zone add cellar --replace --title Keller").stdout
    shop.file.write_text(json.dumps({"zones": drawn, "anchors": placed}))
    assert warned_of(shop) == []
    assert "next:" not in shop("zone add cellar --replace --title Keller").stdout
    learnt = ground_of(shop.kept().compiled()).model
    assert learnt is not None
    shop.file.write_text(json.dumps({"zones": {zone: {} for zone in (*corners, "office")}, "anchors": unplaced}))
    assert warned_of(shop) == ["cellar", "dairy", "office", "wine"]
    put(shop.state / "zone-models", learnt)
    assert warned_of(shop) == ["office"]
    promotions = {"promotions": [{"promotion_id": "a", "long_title": {"de": "A", "en": "A"}, "zones": ["cellar"]}]}
    assert shop("offer lint -", stdin=json.dumps(promotions).encode()).returncode == 0
    (shop.state / "zone-models" / "current").write_text("7")
    broken = {check["name"]: check for check in json.loads(shop("doctor --json").stdout)["checks"]}
    assert (broken["zone model"]["state"], "model-0007.json" in broken["zone model"]["found"]) == ("failed", True)


@pytest.mark.parametrize(
    ("command", "exit_code", "said"),
    [
        ("takeover", 75, "the gateway is not running, so it cannot decide."),
        ("receiver test door", 75, "the gateway is not running, so nothing is heard."),
        ("receiver test door --for 6m", 2, "--for 6m is too long"),
        ("receiver test door --for soon", 2, "soon is no duration"),
        ("receiver test Door", 2, "Door is no name of a receiver"),
    ],
)
def test_what_needs_a_running_gateway_says_so(gateway: Forked, tmp_path: Path, command: str, exit_code: int, said: str) -> None:
    done = Shop(gateway, tmp_path, SHOP)(command)
    assert (done.returncode, "Traceback" in done.stderr) == (exit_code, False)
    assert said in done.stderr


def test_what_people_wrote_cannot_steer_the_terminal(gateway: Forked, tmp_path: Path) -> None:
    shop = Shop(gateway, tmp_path, {"zones": {"a": {"title": "\x1b[31mred\u202e"}}})
    for command in ("zone list", "zone show a", "zone add a --title \x1b[2J --replace", "shop export"):
        said = shop(command)
        assert said.returncode == 0
        assert "\x1b" not in said.stdout
    assert "\u202e" not in shop("zone show a").stdout


# ---- names --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("zone show dary", ["there is no zone dary; did you mean dairy?"]),
        ("zone remove entranse", ["there is no zone entranse; did you mean entrance?"]),
        ("zone add bakery --neighbour dary", ["there is no zone dary; did you mean dairy?"]),
        ("zone show garden", ["there is no zone garden; there are: cellar, dairy, entrance, wine."]),
        ("zone add dairy --replace --neighbour dairy", ["cannot be its own neighbour"]),
        ("zone add Dairy", ["Dairy is no name: use up to 48 small letters"]),
        ("zone add \x1b[31m", ["\\x1b[31m is no name"]),
        ("zone add bakery --tag Fresh", ["zones.bakery.tags.0: Fresh is no name: use up to 48 small letters, "]),
        ("zone add bakery --enter-dbm -5", ["zones.bakery.enter_dbm: Input should be less than or equal to -20"]),
        ("zone add bakery --enter-dbm nan", ["zones.bakery.enter_dbm"]),
        ("zone add bakery --exit-delay-s 99999999999999999999999", ["zones.bakery.exit_delay_s"]),
        ("zone add bakery --dwell-s 1", ["zones.bakery.dwell_s.0"]),
        ("beacon remove shelf-8", ["there is no beacon shelf-8; did you mean shelf-7?"]),
        ("beacon remove door", ["there is no beacon door; there are: shelf-7."]),
        ("beacon add shelf-8", ["shelf-8: a new beacon stands somewhere.", "--zone ZONE"]),
        ("beacon add shelf-8 --zone dary", ["did you mean dairy?"]),
        ("beacon add shelf-8 --zone dairy --minor 107", ["beacons shelf-7 and shelf-8 share the minor 107"]),
        ("beacon add shelf-8 --zone dairy --uuid 12", ["anchors.shelf-8.beacon.uuid"]),
        ("beacon add shelf-8 --zone dairy --namespace 12 --instance 12", ["anchors.shelf-8.beacon.namespace"]),
        ("beacon add shelf-8 --zone dairy --instance 0123456789ab", ["the key of an Eddystone-UID needs namespace, too"]),
        (f"beacon add shelf-8 --zone dairy --beacon-id {'00' * 20} --minor 4", ["one format, not of iBeacon and AltBeacon"]),
        ("beacon add door --zone dairy --replace", ["door is the name of a receiver already"]),
        ("receiver remove dor", ["there is no receiver dor; did you mean door?"]),
        ("receiver add door --zone wine", ["the receiver door exists already", "--replace"]),
        ("receiver add back --covers dary", ["did you mean dairy?"]),
        ("receiver add shelf-7 --zone dairy", ["shelf-7 is the name of a beacon already"]),
    ],
)
def test_a_command_that_cannot_be_is_refused_and_changes_nothing(shop: Shop, command: str, words: list[str]) -> None:
    refused(shop(command), 2, *words)
    assert json.loads(shop.file.read_text()) == SHOP


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("zon list", "'zone'"),
        ("recever list", "'receiver'"),
        ("zone lst", "'list'"),
        ("shop exprot", "'export'"),
        ("offer improt", "'import'"),
        ("zone list --jsn", "--json"),
        ("zone add x --titel y", "--title"),
    ],
)
def test_a_misspelt_word_is_met_with_the_one_that_was_meant(gateway: Forked, typed: str, meant: str) -> None:
    done = gateway.run(*typed.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert meant in done.stderr


# ---- the whole shop -----------------------------------------------------------------------------------------------------------


def test_the_export_is_one_line_for_each_zone_and_anchor(shop: Shop) -> None:
    assert shop("shop export").stdout == (
        '{\n  "zones": {\n    "cellar": {},\n'
        '    "dairy": {"tags": ["chilled", "food"], "neighbours": ["entrance", "wine"], "exit_delay_s": 90},\n'
        '    "entrance": {"title": "Eingang", "neighbours": ["dairy"]},\n'
        '    "wine": {"neighbours": ["dairy"], "sensitive": true}\n  },\n  "anchors": {\n'
        '    "ceiling": {"kind": "receiver", "covers": ["wine"]},\n'
        '    "door": {"kind": "receiver", "zone": "entrance", "covers": ["dairy", "wine"]},\n'
        f'    "shelf-7": {{"kind": "beacon", "zone": "dairy", "uuid": "{UUID}", "major": 3, "minor": 107}}\n  }}\n}}\n'
    )
    assert shop("shop export --json").json["shop"]["zones"]["dairy"]["exit_delay_s"] == 90


def test_what_was_exported_is_imported_without_a_change(shop: Shop) -> None:
    text = shop("shop export").stdout.encode()
    done = shop("shop import -", stdin=text)
    assert (done.returncode, done.stdout) == (0, "nothing to change\n")


def test_an_import_replaces_the_whole_shop_and_lists_the_difference(shop: Shop, tmp_path: Path) -> None:
    new = {
        "zones": {"dairy": {"tags": ["food"]}, "bakery": {}},
        "anchors": {
            "shelf-7": {**SHOP["anchors"]["shelf-7"], "uuid": UUID.upper()},
            "oven": {"kind": "receiver", "zone": "bakery"},
        },
    }
    file = tmp_path / "new.json"
    file.write_text(json.dumps(new))
    told = [
        "added    zone bakery",
        "added    receiver oven",
        "changed  zone dairy: tags chilled+food → food, neighbours entrance+wine → –, exit_delay_s 90 → 120",
        "removed  zone cellar",
        "removed  zone entrance",
        "removed  zone wine",
        "removed  receiver ceiling",
        "removed  receiver door",
    ]
    assert shop("shop import", file, "--dry-run").stdout.splitlines() == [*told, "nothing was changed (--dry-run)"]
    assert json.loads(shop.file.read_text()) == SHOP
    assert shop("shop import", file).stdout.splitlines() == [*told, KEPT]
    assert shop.kept() == ShopFile.model_validate(new)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b'{"zones": {"a": {"neighbours": ["b"]}}}', ["zone a has the neighbour b, which is no zone of this shop"]),
        (b'{"zones": {"a": {"colour": 1}}}', ["zones.a.colour: Extra inputs"]),
        (b"{", ["not strict JSON"]),
        (b"\xff\xfe\x00", ["not strict JSON"]),
        (b"[" * 100_000, ["nested deeper than 16"]),
        (b'{"zones": {}}' + b" " * 10_000_000, ["more than the 1048576 we accept"]),
    ],
)
def test_a_wrong_file_changes_nothing(shop: Shop, text: bytes, words: list[str]) -> None:
    refused(shop("shop import -", stdin=text), 78, "-: ", "Correct the shop file.", *words)
    assert json.loads(shop.file.read_text()) == SHOP


def test_a_shop_that_no_gateway_could_read_is_not_kept(shop: Shop) -> None:
    """In the file it is small enough, in the form in which it is kept not."""
    zones = ",".join(f'"z{number}":{{"sensitive":true}}' for number in range(33_000))
    text = f'{{"zones":{{{zones}}}}}'.encode()
    assert len(text) < 1024 * 1024
    refused(shop("shop import -", stdin=text), 2, "larger than 1048576 bytes")
    assert json.loads(shop.file.read_text()) == SHOP


def test_a_file_that_is_there_but_wrong_is_said_so_and_left_alone(shop: Shop) -> None:
    shop.file.write_text("{")
    for command in ("zone list", "zone add x", "shop export"):
        refused(shop(command), 78, "shop.json: not strict JSON", "Correct the shop file.")
    assert shop.file.read_text() == "{"


def test_the_schema_is_the_one_in_the_documentation(gateway: Forked) -> None:
    printed = gateway.run("shop", "schema").stdout
    assert printed == (ROOT / "docs" / "shop.schema.json").read_text("utf-8")
    schema = json.loads(printed)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["properties"]["zones"]["additionalProperties"] is False
    for entry in ("ZoneEntry", "ReceiverEntry", "BeaconEntry"):
        assert schema["$defs"][entry]["additionalProperties"] is False


def test_a_file_is_checked_without_a_gateway(gateway: Forked) -> None:
    text = json.dumps(SHOP).encode()
    assert gateway.run("shop", "check", "-", stdin=text).stdout == "4 zones, 2 receivers, 1 beacons: in order\n"
    assert gateway.run("shop", "check", "-", "--json", stdin=text).json == {"zones": 4, "receivers": 2, "beacons": 1}


names = st.from_regex(r"[a-z][a-z0-9-]{0,5}", fullmatch=True)
places = st.tuples(st.floats(-9999, 9999), st.floats(-9999, 9999))
outlines = st.tuples(st.floats(-9000, 9000), st.floats(-9000, 9000), st.floats(0.1, 900), st.floats(0.1, 900)).map(
    lambda drawn: [(drawn[0], drawn[1]), (drawn[0] + drawn[2], drawn[1]), (drawn[0], drawn[1] + drawn[3])]
)
"""Those of which one can be inside."""


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_export_and_import_are_inverse(gateway: Forked, data: st.DataObject) -> None:
    zones = data.draw(st.lists(names, min_size=1, max_size=5, unique=True))
    some = st.lists(st.sampled_from(zones), unique=True, max_size=3)
    entry = st.fixed_dictionaries(
        {},
        optional={
            "title": st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=20),
            "tags": st.lists(names, max_size=3),
            "neighbours": st.none() | some,
            "sensitive": st.booleans(),
            "enter_dbm": st.floats(-100, -20),
            "enter_after_s": st.integers(0, 300_000).map(lambda ms: ms / 1000),
            "stale_s": st.integers(5, 1800),
            "corners": outlines,
            "dwell_s": st.lists(st.integers(5, 7200), max_size=3),
        },
    )
    receiver = st.fixed_dictionaries(
        {"kind": st.just("receiver")}, optional={"zone": st.sampled_from(zones), "covers": some, "at": places}
    )
    anchors = data.draw(st.dictionaries(names.map("x{}".format), receiver, max_size=3))
    document = {"zones": {zone: data.draw(entry) for zone in zones}, "anchors": anchors}
    with tempfile.TemporaryDirectory() as folder:
        shop = Shop(gateway, Path(folder), None)
        assert shop("shop import -", stdin=json.dumps(document).encode()).returncode == 0
        text = shop("shop export").stdout
        assert read_shop(text.encode(), "").compiled() == ShopFile.model_validate(document).compiled()
        assert shop("shop import -", stdin=text.encode()).stdout == "nothing to change\n"


# ---- files and owners ---------------------------------------------------------------------------------------------------------


@needs_root
def test_root_writes_as_the_service_user(gateway: Forked) -> None:
    with two_accounts() as (folder, private):
        shop = Shop(gateway, folder, SHOP)
        give_away(shop.state)
        named = private / "shop.json"
        named.write_text('{"zones": {"a": {}}}')
        assert shop("zone add bakery").returncode == 0
        assert (shop.file.stat().st_uid, shop.file.stat().st_gid) == (SERVICE, SERVICE)
        # What root names on the command line is read as root.
        assert shop("shop import", named).returncode == 0
        assert [*shop.kept().zones] == ["a"]
        assert owners(shop.state) == {SERVICE}


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write everywhere")
def test_a_folder_that_cannot_be_written_is_a_disk_error(shop: Shop) -> None:
    shop.state.chmod(0o500)
    try:
        refused(shop("zone add bakery"), 74, "shop.json: cannot be written")
    finally:
        shop.state.chmod(0o700)


# ---- while the gateway runs ---------------------------------------------------------------------------------------------------


@contextmanager
def running(shop: Shop) -> Iterator[None]:
    """`gateway run` with these settings, which have no adapter, until the end."""
    process = subprocess.Popen(
        [PROGRAM, "run", "--config", shop.config], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        socket = shop.state / "control.sock"
        until = time.monotonic() + 30
        while not socket.exists() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        assert socket.exists(), process.communicate(timeout=10)
        yield
    finally:
        process.terminate()
        _, complained = process.communicate(timeout=30)
        assert process.returncode == 0, complained


@pytest.mark.slow
def test_a_running_gateway_uses_every_change_at_once(gateway: Forked, tmp_path: Path) -> None:
    shop = Shop(gateway, tmp_path, SHOP)
    text = shop.config.read_text().replace("[broker]", "receivers = []\n[broker]")
    shop.config.write_text(text)
    with running(shop):
        assert shop("zone add bakery --neighbour entrance").stdout.splitlines()[:3] == [
            "added    zone bakery",
            "changed  zone entrance: neighbours dairy → bakery+dairy",
            "in force now",
        ]
        made = shop("beacon add oven --zone bakery --json").json
        assert (made["result"], made["anchors_added"], made["beacon"]["minor"]) == ("in_force", ["oven"], 108)
        # The daemon keeps it, too: what is in the file is what it says.
        assert {"bakery", "dairy"} <= set(shop.kept().zones)
        assert [zone["name"] for zone in shop("zone list --json").json["zones"]] == sorted([*SHOP["zones"], "bakery"])
        assert "bakery" in shop("zone show bakery").stdout
        refused(shop("zone remove bakery"), 2, "oven", "--cascade")
        assert shop("zone remove bakery --cascade --json").json["anchors_removed"] == ["oven"]
        exported = shop("shop export").stdout
        assert shop("shop import -", stdin=b'{"zones": {"a": {}}}').stdout.splitlines()[-1] == "in force now"
        assert [*shop.kept().zones] == ["a"]
        refused(shop("shop import -", stdin=b'{"zones": {"a": {"neighbours": ["b"]}}}'), 78, "no zone of this shop")
        assert shop("shop import -", stdin=exported.encode()).returncode == 0
        assert shop("shop export").stdout == exported
    assert shop("shop export").stdout == exported
