"""`gateway why`: what the real line has decided, told from the sighting to the inbox, with a running daemon and without."""

import asyncio
import os
import re
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import typer

from gateway.cli.app import app
from gateway.cli.why_text import lines
from gateway.contract.control import AddTechnicianRequest, Technicians
from gateway.contract.explanations import Explanation, Explanations
from gateway.core.model import ClockQuality, Consent, Entered, Evidence, Instant, Outcome, Step
from gateway.io.clock import SystemClock
from gateway.io.store import Store
from tests.cli.forked import Done, Forked
from tests.cli.shown import GATEWAY, Json, Shown
from tests.daemon.test_control import KEY, Running, promotion


@pytest.fixture
def why(gateway: Forked, shown: Shown) -> Callable[..., Done]:
    def run(*arguments: object) -> Done:
        return gateway.run("why", *arguments, *shown.arguments)

    return run


def decisions(done: Done) -> list[Explanation]:
    return list(Explanations.model_validate(done.json).decisions)


def text_of(done: Done) -> str:
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


# ---- what is told -------------------------------------------------------------------------------------------------------------


def test_everything_the_demonstration_decided_is_decided_again_alike(why: Callable[..., Done], shown: Shown) -> None:
    found = decisions(why("--last", "100", "--json"))
    matchings = [decision.matching for decision in found if decision.matching is not None]
    assert all(matching.recomputed and matching.disagreement is None for matching in matchings)
    reasons = Counter(withheld.reason.value for matching in matchings for withheld in matching.withheld)
    assert reasons == shown.summary["withheld"]
    assert {"cap_visit", "outside_window"} <= reasons.keys()
    offers = [offer for decision in found for offer in decision.offers]
    assert len(offers) == shown.summary["offers_matched"] > 0
    assert {offer.state for offer in offers} == {"granted"}
    assert {offer.inbox.state for offer in offers if offer.inbox is not None} == {"confirmed"}
    assert [decision.time for decision in found] == sorted(decision.time for decision in found)


def test_an_offer_is_told_from_the_sighting_to_the_inbox_under_one_id(why: Callable[..., Done]) -> None:
    offer = next(offer for decision in decisions(why("--last", "100", "--json")) for offer in decision.offers if offer.push)
    lines = text_of(why("--offer", offer.offer)).splitlines()
    ids = {line.split()[0] for line in lines}
    assert len(ids) == 1
    assert re.fullmatch(r"[0-9a-f]{8}-d[0-9]+", ids.pop())
    assert re.search(r"  Mon 2026-09-14 17:0[0-2]:\d\d  entered \w+  \(visit [0-9a-f]{16}\)$", lines[0])
    told = {line[len(lines[0].split()[0]) :].strip().split()[0]: line for line in lines[1:]}
    assert re.search(r"heard by \d receivers?: receiver-\w+ -\d\d dBm", told["sightings"])
    assert re.search(r"\w+ with \d+%, at least [\d.]+ times as likely as", told["position"])
    assert "stayed" in told["presence"] or "has not left" in told["presence"]
    assert told["delivery"].endswith("zone.entered acknowledged by central")
    assert re.search(r"1 of \d promotions offered \(catalogue 1\)", told["matching"])
    assert told["offered"].endswith(f"{offer.promotion_id}: a push, offer {offer.offer}")
    assert re.search(r"granted after [\d.]+ m?s$", told["central"])
    assert re.search(r"in the app: shown at 17:\d\d:\d\d, [\d.]+ m?s after the event$", told["inbox"])


def test_what_only_central_knows_is_left_to_it(gateway: Forked, why: Callable[..., Done], shown: Shown) -> None:
    offer = next(offer for decision in decisions(why("--last", "100", "--json")) for offer in decision.offers)
    done = gateway.run("why", "--offer", offer.offer, "--config", shown.folder / "gateway.toml")
    assert "inbox    known to central only" in text_of(done)


def test_each_withheld_promotion_has_its_reason_in_words(why: Callable[..., Done], shown: Shown) -> None:
    text = text_of(why("--last", "100"))
    assert re.search(r"withheld   breakfast-deal, outside_window: Mon–Fri 07:00–10:00; this was Mon 17:0\d$", text, re.MULTILINE)
    assert re.search(
        r"cap_visit: this visit's push went to fresh-bread-20 at 17:0\d:\d\d \(offer [0-9a-f]{16}\); on the silent shelf"
        r" instead$",
        text,
        re.MULTILINE,
    )
    withheld = sum(line.split()[1] == "withheld" for line in text.splitlines() if line)
    assert withheld == sum(shown.summary["withheld"].values())


def test_with_every_event_the_stays_have_their_ends(why: Callable[..., Done], shown: Shown) -> None:
    found = decisions(why("--last", "100", "--every-event", "--json"))
    left = [(line["zone"], line["why"]) for line in shown.lines if line["what"] == "left"]
    exits = [decision for decision in found if decision.event == "zone.exited"]
    assert len(exits) == len(left)
    for decision, (zone, why_) in zip(exits, left, strict=True):
        assert decision.stay is not None
        assert (decision.zone, f"{decision.stay.exit_reason}, stayed {decision.stay.stayed_s:.0f} s") == (zone, why_)
    assert {"visit.started", "zone.entered", "zone.exited"} <= {decision.event for decision in found}


def timeless(decision: Explanation) -> Explanation:
    offers = tuple(offer.model_copy(update={"delivery": None}) for offer in decision.offers)
    return decision.model_copy(update={"delivery": None, "offers": offers})


@pytest.mark.parametrize(
    ("options", "most"),
    [((), 1), (("--last",), 1), (("--last", 3), 3), (("--last", 2, "--zone", "wine"), 2), (("--zone", "dairy"), 1)],
)
def test_the_newest_are_shown_and_no_more(why: Callable[..., Done], options: tuple[object, ...], most: int) -> None:
    found = decisions(why("--json", *options))
    everything = decisions(why("--json", "--last", 100, *(options[2:] if options[:1] == ("--last",) else options)))
    # How long the demo's last event has waited when it ended is told by the clock, so it differs from call to call.
    assert [timeless(decision) for decision in found] == [timeless(decision) for decision in everything[-most:]]
    assert len(found) == most
    if "--zone" in options:
        assert {decision.zone for decision in found} == {options[-1]}


def test_no_pseudonym_and_no_inbox_is_printed(why: Callable[..., Done], shown: Shown) -> None:
    printed = why("--last", "100", "--every-event").stdout + why("--last", "100", "--every-event", "--json").stdout
    names = shown.pseudonyms() | shown.inboxes()
    assert len(names) > 5
    assert not {name for name in names if name in printed}


def test_nothing_is_changed_by_asking(why: Callable[..., Done], shown: Shown) -> None:
    def state() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in shown.folder.rglob("*.db")}

    before = state()
    text_of(why("--last", "5"))
    assert state() == before


def test_the_help_names_the_keys_of_the_answer() -> None:
    text = typer.main.get_command(app).get_command(None, "why").epilog  # type: ignore[attr-defined]
    outer, inner = re.sub(r" \(.*\)", "", text), re.findall(r"\((.*)\)", text)[0]
    assert outer == f"JSON: {', '.join(Explanations.model_fields)}."
    assert inner.split(", ") == [*Explanation.model_fields]


# ---- what cannot be answered --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param(("--zone", "dary"), "there is no zone dary; did you mean dairy", id="misspelt zone"),
        pytest.param(("--zone", "\x1b[31m"), "there is no zone \\x1b[31m; there are: ", id="zone that steers a terminal"),
        pytest.param(("--zone", "z" * 100), "at most 48 characters", id="overlong zone"),
        pytest.param(("--since", "10"), "10 is no duration; write it like 90s, 10m, 2h or 1d.", id="duration without unit"),
        pytest.param(("--since", "0m"), "0m is no duration", id="no time at all"),
        pytest.param(("--since", "9999d"), "less than or equal to 31622400", id="longer than rows are kept"),
        pytest.param(
            ("--offer", "nobody-made-it"), "there is no offer nobody-made-it in this gateway's ledger", id="unknown offer"
        ),
        pytest.param(("--offer", "../x"), "offer: is no id: use up to 64 letters, digits and -.", id="no offer id"),
        pytest.param(("--decision", "d99999"), "there is no decision d99999; those of this database begin with", id="unknown"),
        pytest.param(("--decision", "00000000-d1"), "there is no decision 00000000-d1", id="of another database"),
        pytest.param(("--decision", "1"), "decision: is no decision: write it as in 3f9c1a2b-d142.", id="no decision id"),
        pytest.param(("--offer", "a", "--zone", "dairy"), "--offer and --decision name one decision", id="offer and zone"),
        pytest.param(("--offer", "a", "--decision", "d1"), "--offer and --decision name one decision", id="offer and decision"),
        pytest.param(("5",), "needs --last", id="a number for nothing"),
    ],
)
def test_a_wrong_question_is_one_clear_sentence(why: Callable[..., Done], options: tuple[str, ...], words: str) -> None:
    done = why(*options)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert "\x1b[31m" not in done.stderr


def test_an_offer_of_another_gateway_is_recognised_as_such(gateway: Forked, shown: Shown, tmp_path: Path) -> None:
    """As after a database was lost: central knows the offer, this ledger does not."""
    with closing(sqlite3.connect(shown.folder / "central" / "central.db")) as database:
        ((offer,),) = database.execute("SELECT offer FROM offer LIMIT 1").fetchall()
    config = empty_gateway(tmp_path)
    done = gateway.run("why", "--offer", offer, "--config", config, "--central-config", shown.folder / "central.toml")
    assert done.returncode == 2
    assert "Central knows it: another gateway or an older database of this one made it." in done.stderr


def test_before_the_first_start_there_is_nothing_to_explain(gateway: Forked, tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text(GATEWAY.format(state_dir=tmp_path / "state"))
    done = gateway.run("why", "--last", "--config", config)
    assert (done.returncode, done.stdout) == (75, "")
    assert "there is no ledger yet" in done.stderr


def test_a_broken_database_is_one_clear_sentence(gateway: Forked, tmp_path: Path) -> None:
    config = empty_gateway(tmp_path)
    (tmp_path / "state" / "gateway.db").write_bytes(b"SQLite format 3\0" + bytes(4080))
    done = gateway.run("why", "--last", "--config", config)
    assert (done.returncode, done.stdout) == (74, "")
    assert "the database cannot be read" in done.stderr


def test_settings_of_central_that_were_named_must_be_readable(gateway: Forked, shown: Shown, tmp_path: Path) -> None:
    config = shown.folder / "gateway.toml"
    done = gateway.run("why", "--last", "--config", config, "--central-config", tmp_path / "nowhere.toml")
    assert done.returncode == 78
    assert "nowhere.toml: cannot be read" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_root_asks_as_the_service_and_still_sees_what_central_knows(gateway: Forked, shown: Shown) -> None:
    """Gateway and central belong to two accounts; no file changes its owner, and none of root's is left behind."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copytree(shown.folder, folder, dirs_exist_ok=True)
        for settings in ("gateway.toml", "central.toml"):
            text = (folder / settings).read_text().replace(str(shown.folder), str(folder))
            (folder / settings).write_text(text)
        owners = {"gateway": 61_001, "central": 61_002}
        for part, user in owners.items():
            for path in (folder / part, *(folder / part).iterdir()):
                os.chown(path, user, user)
            (folder / part).chmod(0o700)
        arguments = ("--config", folder / "gateway.toml", "--central-config", folder / "central.toml")
        found = decisions(gateway.run("why", "--last", 100, "--json", *arguments))
        assert {offer.inbox.state for decision in found for offer in decision.offers if offer.inbox is not None} == {"confirmed"}
        for part, user in owners.items():
            assert {path.stat().st_uid for path in (folder / part).iterdir()} == {user}


# ---- since when ---------------------------------------------------------------------------------------------------------------


def empty_gateway(folder: Path, *ages_s: int) -> Path:
    """Settings of a gateway where somebody entered the dairy these many seconds ago."""
    state_dir = folder / "state"
    config = folder / "gateway.toml"
    config.write_text(GATEWAY.format(state_dir=state_dir))
    (state_dir).mkdir()
    (state_dir / "shop.json").write_text('{"zones": {"dairy": {}, "wine": {}}}')

    async def work() -> None:
        store = Store(state_dir / "gateway.db", quota_mib=16, boot_id="boot")
        await store.start()
        now_ms = SystemClock().now().wall_ms
        for age_s in ages_s:
            at = Instant(0, now_ms - 1000 * age_s)
            event = Entered("8a4061daf88a329d", f"v{age_s}", "dairy", at, Consent.OFFERS, Evidence(0.9, None, 2.0, ()))
            await store.commit(Step((Outcome(event),)), quality=ClockQuality.SYNCHRONISED, wall_ms=now_ms)
        await store.close()

    asyncio.run(work())
    return config


def test_only_what_is_recent_enough_is_shown(gateway: Forked, tmp_path: Path) -> None:
    config = empty_gateway(tmp_path, 7000, *range(590, 90, -20))

    def visits(*options: object) -> list[str]:
        return [decision.visit for decision in decisions(gateway.run("why", "--json", "--config", config, *options))]

    assert visits("--since", "2m") == ["v110"]
    assert visits("--since", "1d", "--last", 100) == ["v7000", *(f"v{age}" for age in range(590, 90, -20))]
    assert visits("--since", "1h") == [f"v{age}" for age in range(490, 90, -20)]
    told = gateway.run("why", "--since", "1h", "--config", config).stdout
    assert told.splitlines()[-1] == "Older ones are left out; --last N shows up to 100."
    assert told.count("not told to central, because the shopper has not consented to statistics") == 20


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--zone", "wine", "--since", "10m"), "Nothing was decided in wine in the last 10m: nobody entered, nor stayed"),
        (("--since", "1m"), "Nothing was decided in the last 1m: nobody entered, nor stayed"),
        (("--zone", "wine", "--every-event"), "Nothing happened in wine."),
    ],
)
def test_that_there_was_nothing_is_an_answer(gateway: Forked, tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    config = empty_gateway(tmp_path, 300)
    assert text_of(gateway.run("why", *options, "--config", config)).startswith(said)
    assert gateway.run("why", *options, "--config", config, "--json").json["decisions"] == []


# ---- words for what is rare ----------------------------------------------------------------------------------------------------


def told(**changes: Any) -> list[str]:
    """The lines about one entry, without their common beginning."""
    decision = {
        "decision": "0123abcd-d7",
        "time": "2026-09-14T15:00:00Z",
        "event": "zone.entered",
        "zone": "dairy",
        "visit": "v1",
        "delivery": {"state": "acknowledged", "detail": "acknowledged by central"},
        **changes,
    }
    answer = Explanations.model_validate({"epoch": "0123abcd" * 2, "time_zone": "Europe/Berlin", "decisions": [decision]})
    found = list(lines(answer, ZoneInfo("Europe/Berlin")))
    assert {line[:13] for line in found} == {"0123abcd-d7  "}
    return [line[13:] for line in found]


def matching(**changes: Any) -> Json:
    return {"catalogue_version": 3, "counts": {}, "recomputed": True, "detail": "0 of 1 promotions offered", **changes}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param(
            {"heard": [{"anchor": "b-7", "level_dbm": -70.4, "source": "report"}]},
            "  sightings  the app reported 1 beacon: b-7 -70 dBm",
            id="told over the Internet",
        ),
        pytest.param(
            {"belief": {"probability": 0.99, "times_likelier": 50_000.0}},
            "  position   dairy with 99%, more than 1000 times as likely as outside",
            id="as good as certain",
        ),
        pytest.param(
            {"matching": matching(recomputed=False, counts={"cool_down": 2, "no_consent": 1}, detail="another catalogue")},
            "             withheld: 2 cool_down, 1 no_consent",
            id="counts alone",
        ),
        pytest.param(
            {"matching": matching(disagreement="recomputed 3 cool_down, the ledger says 2.")},
            "             CAUTION: recomputed 3 cool_down, the ledger says 2.",
            id="a contradiction",
        ),
        pytest.param(
            {
                "matching": matching(
                    counts={"cap_day": 24},
                    withheld=[{"promotion_id": f"p{n}", "reason": "cap_day", "detail": "1 of 1 today"} for n in range(24)],
                )
            },
            "             and 4 cap_day; --json shows more of them",
            id="too many to read",
        ),
    ],
)
def test_what_is_rare_has_its_words_too(changes: Json, expected: str) -> None:
    assert expected in told(**changes)


# ---- a running gateway --------------------------------------------------------------------------------------------------------


async def test_a_running_gateway_answers_who_may_not_read_its_files(gateway: Forked, tmp_path: Path) -> None:
    """What a member of its group asks goes through the socket: here the settings name no folder in which the database is."""
    (tmp_path / "running").mkdir()
    other = tmp_path / "gateway.toml"
    async with Running(tmp_path / "running", promotion("yoghurt"), promotion("bread", "dairy", priority=5))() as running:
        other.write_text(GATEWAY.format(state_dir=tmp_path / "nowhere") + f'control_socket = "{running.settings.control_path}"\n')
        await running.ask(AddTechnicianRequest(name="tina", key=KEY, duration_s=3600), Technicians)
        while not any(outcome.offers for step in running.steps for outcome in step.outcomes):
            await running.stay(0.5)
        done = await asyncio.to_thread(gateway.run, "why", "--config", other, "--last")
        wrong = await asyncio.to_thread(gateway.run, "why", "--config", other, "--zone", "dary")
        as_json = await asyncio.to_thread(gateway.run, "why", "--config", other, "--last", "--json")
        pseudonyms = running.pseudonyms
    assert done.returncode == 0, done.stderr
    assert "a test shopper: no caps, no cool-downs" in done.stdout
    assert "heard by 1 receiver: door -55 dBm" in done.stdout
    assert re.search(r"offered    bread: a push, offer [0-9a-f]{16}$", done.stdout, re.MULTILINE)
    assert re.search(r"central  no answer yet; waits until \d\d:\d\d:\d\d$", done.stdout, re.MULTILINE)
    assert re.search(r"delivery not acknowledged by central for [\d.]+ m?s \(event [0-9a-f]{16}-1\)$", done.stdout, re.MULTILINE)
    assert "withheld   yoghurt, lower_priority: bread won the one push (priority 5 before 0)" in done.stdout
    assert (wrong.returncode, wrong.stderr) == (2, "gateway: there is no zone dary; did you mean dairy?\n")
    assert not {name for name in pseudonyms if name in as_json.stdout}
    (explained,) = Explanations.model_validate_json(as_json.stdout).decisions
    assert (explained.test_shopper, explained.delivery.state) == (True, "not_told")
