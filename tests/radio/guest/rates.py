"""Job: how much of what six constant advertisers send at 10/s reaches the pipeline, for each kind of adapter and scan.

    python -m tests.radio.guest.rates [with-helper | without-helper]

Eight adapters are plugged in, one of each kind, and one gateway has them all as receivers; then, without the radio helper, those
that know no extended commands. Two at a time have advertisers in their air, each of which sends a known number of advertisements;
what the pipeline got is counted in the recording that the gateway itself writes.
"""

import json
import sys
import time
from collections import Counter, defaultdict

from gateway.core import ad_structures
from gateway.core.ad_structures import FLAGS, AdStructure
from gateway.core.captures.json_lines import JsonLines
from gateway.core.captures.records import Advertisement
from gateway.core.frames import Decoder, altbeacon, eddystone, format_of, ibeacon, shopper
from gateway.core.model import AltBeacon, EddystoneUid, IBeacon, ShopperToken
from tests.radio.guest.surroundings import (
    RECORDING,
    Adapter,
    Json,
    call,
    configure,
    cpu_s,
    journal,
    leave,
    powered,
    say,
    start_bluetooth,
    start_gateway,
    status,
    stop_gateway,
    unit,
    wait_until,
)

SERVICE_UUID16, COMPANY_ID = 0xFCF1, 0x0FFF
COUNT, FEWER = 200, 120
"""Advertisements of each advertiser in each case, with the helper and without: 21 and 13 s at 10/s. A scan takes 10.4 s."""
SCANS, COMMANDS, DUPLICATES = ("passive", "active"), ("legacy", "extended"), ("lenient", "strict")
FORMS = ("ibeacon", "eddystone-uid", "altbeacon", "U", "S", "M")

_SETTINGS = f"""
store = "lab"
store_number = 4711
gateway = "pi-1"
[privacy]
controller = "Lab"
contact = "lab@example.org"
dpia_ack = true
[clock]
assume_synchronised = true
[chain]
service_uuid16 = {SERVICE_UUID16}
company_id = {COMPANY_ID}
[radio]
silence_s = 3600
"""
KINDS = [(scan, commands, duplicates) for scan in SCANS for commands in COMMANDS for duplicates in DUPLICATES]


def advertisements() -> dict[str, Json]:
    """The six, by form: none changes in any bit, only its RSSI; U is connectable and answers scan requests with a name."""
    token = bytes(range(0x40, 0x50))
    flags, phone = AdStructure(FLAGS, b"\x06"), AdStructure(FLAGS, b"\x1a")

    def encoded(*structures: AdStructure) -> str:
        return ad_structures.encode(structures).hex()

    data = {
        "ibeacon": encoded(flags, ibeacon.encode(IBeacon(bytes(range(16)), 1, 2, -59))),
        "eddystone-uid": encoded(flags, AdStructure(3, b"\xaa\xfe"), eddystone.encode(EddystoneUid(bytes(10), bytes(6), -59))),
        "altbeacon": encoded(flags, altbeacon.encode(AltBeacon(0x0118, bytes(20), -59, 0))),
        "U": encoded(phone, shopper.encode(ShopperToken("U", token, None))),
        "S": encoded(shopper.encode(ShopperToken("S", token, -60), service_uuid16=SERVICE_UUID16)),
        "M": encoded(shopper.encode(ShopperToken("M", token, -60), company_id=COMPANY_ID)),
    }
    found = {form: {"address": f"C0:00:00:00:01:{n:02X}", "data": data[form]} for n, form in enumerate(FORMS)}
    found["U"]["response"] = encoded(AdStructure(9, b"phone"))
    return found


def got() -> dict[str, Counter[str]]:
    """What the recording holds, by receiver and form."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    decode = Decoder(SERVICE_UUID16, COMPANY_ID).decode
    for record in JsonLines().feed(RECORDING.read_bytes()):
        if isinstance(record, Advertisement):
            frame = decode(record.data)
            if frame is not None:
                assert record.receiver is not None
                found[record.receiver][frame.form if isinstance(frame, ShopperToken) else format_of(frame)] += 1
    return found


def plug_in() -> dict[str, Adapter]:
    """One of each kind, by the receiver's name."""
    adapters = {}
    for number, (scan, commands, duplicates) in enumerate(KINDS, start=1):
        address = f"F0:00:00:00:00:{number:02X}"
        kind = Adapter(address, strict=duplicates == "strict", extended=commands == "extended")
        adapters[f"{scan}-{commands}-{duplicates}"] = kind
    for name, adapter in adapters.items():
        assert wait_until(lambda hci=adapter.hci: powered(hci), 120) is not None, f"{name} does not come up"  # type: ignore[misc]
    return adapters


def feed(adapters: list[Adapter], count: int) -> None:
    """Put the six into the air of these, and wait until they have sent everything."""
    for form, advertisement in advertisements().items():
        for adapter in adapters:
            adapter.order(name=form, count=count, rssi=-60, **advertisement)

    def all_sent() -> bool:
        return not any(form["left"] for adapter in adapters for form in adapter.counts()["counts"].values())

    assert wait_until(all_sent, 240, 1.0) is not None, "the advertisers were never done"
    time.sleep(3)


def listen(adapters: dict[str, Adapter], *, helper: bool) -> Json:
    """One run of the gateway with these as its receivers, fed two at a time: a row of counts for each."""
    receivers = [
        f'[[receivers]]\nname = "{name}"\nadapter = "{adapter.address}"\nscan = "{name.partition("-")[0]}"\n'
        for name, adapter in adapters.items()
    ]
    configure(_SETTINGS + "".join(receivers), {})
    started_at = {name: len(adapter.switches) for name, adapter in adapters.items()}
    before = {name: adapter.counts()["counts"] for name, adapter in adapters.items()}
    start_gateway(helper=helper, record=True)
    listening = wait_until(lambda: all(adapter.scans for adapter in adapters.values()), 240)
    if listening is None:
        deaf = [name for name, adapter in adapters.items() if not adapter.scans]
        raise AssertionError(f"not made to scan: {deaf}\n{journal('gateway')[-2000:]}\n{journal('bluetooth')[-2000:]}")
    say("listening after", listening)
    pid = int(unit("gateway")["MainPID"])
    began_s, cpu_before_s = time.monotonic(), cpu_s(pid)
    names = list(adapters)
    for two in range(0, len(names), 2):
        feed([adapters[name] for name in names[two : two + 2]], COUNT if helper else FEWER)
        say("sent to", names[two : two + 2])
    cpu_share = (cpu_s(pid) - cpu_before_s) / (time.monotonic() - began_s)
    said = status()
    assert said is not None, journal("gateway")[-2000:]
    stop_gateway()
    recorded = got()
    rows: list[Json] = []
    for name, adapter in adapters.items():
        counts, past = adapter.counts()["counts"], before[name]
        switches = [switch for switch in adapter.switches[started_at[name] :] if switch["scanning"]]
        row: Json = {
            **dict(zip(("scan", "commands", "duplicates"), name.split("-"), strict=True)),
            **{
                count: {form: counts[form][count] - past.get(form, {}).get(count, 0) for form in FORMS}
                for count in ("sent", "missed", "reported", "withheld")
            },
            "got": {form: recorded[name][form] for form in FORMS},
            "status": next(each for each in said["receivers"] if each["name"] == name),
            "switches": len(switches),
            "last": switches[-1],
        }
        rows.append(row)
        say(name, "got", row["got"], "missed", row["missed"], "reported", row["reported"], row["last"])
    return {"rows": rows, "cpu_share": cpu_share, "journal": journal("gateway")[-20_000:]}


def main(words: list[str]) -> None:
    """All kinds with the helper, then some without."""
    start_bluetooth(experimental=True)
    adapters = plug_in()
    say("plugged in")
    found: Json = {"kernel": call("uname", "-r").strip()}
    if "without-helper" not in words:
        found["with helper"] = listen(adapters, helper=True)
    if "with-helper" not in words:
        legacy = {name: adapter for name, adapter in adapters.items() if "-legacy-" in name}
        found["without helper"] = listen(legacy, helper=False)
        checks = json.loads(call("/usr/local/bin/gateway", "doctor", "--json", may_fail=True))["checks"]
        found["doctor"] = [check for check in checks if check["name"] == "helper"]
    leave(found)


if __name__ == "__main__":
    main(sys.argv[1:])
