"""What other systems publish becomes the advertisement that it was, as far as they tell it, and nothing they may say raises.

The vectors are payloads as somebody received them, or as the projects document them; their sources are named.
"""

import json
from dataclasses import dataclass
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.contract.settings import ForeignReceivers
from gateway.core.ad_structures import AdStructure, encode
from gateway.core.frames import Decoder, shopper
from gateway.core.model import IBeacon, Reject, ShopperToken
from gateway.core.receivers import FORMATS, levels_below
from gateway.core.receivers.freshness import LATE_MS, MOST_REMEMBERED, REPEATED_MS, Freshness
from gateway.core.receivers.reports import Life, Report
from tests.fakes import foreign_receivers as says

TOKEN = bytes.fromhex("8a4061daf88a329d6160529fbe31d8c5")
SERVICE, COMPANY = 0xFFF0, 0x1234
FORM_U = encode([AdStructure(1, b"\x06"), shopper.encode(ShopperToken("U", TOKEN, None))])
FORM_S = encode([shopper.encode(ShopperToken("S", TOKEN, -59), service_uuid16=SERVICE)])
FORM_M = encode([shopper.encode(ShopperToken("M", TOKEN, -59), company_id=COMPANY)])
BEACON = bytes.fromhex("02011a1aff4c000215e2c56db5dffb48d2b060d0f5a71096e000640007c5")


def read(kind: str, topic: str, payload: bytes | str) -> list[Report] | Reject | None:
    one = FORMATS[kind]
    return one.read(levels_below(one.prefix, topic), json.loads(payload))


# ---- vectors ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Vector:
    kind: str
    source: str
    topic: str
    payload: str
    expected: list[Report]


VECTORS = {
    "ESPresense, an iBeacon": Vector(
        "espresense",
        "github.com/ESPresense/ESPresense issue 1468 (3.3.5); raw is a distance",
        "espresense/devices/iBeacon:41caeee6-5dd2-467c-9b9d-ef31cbce7445-100-40004/office",
        '{"mac":"5144f33b19fa","id":"iBeacon:41caeee6-5dd2-467c-9b9d-ef31cbce7445-100-40004","idType":180,"rssi@1m":-59,'
        '"rssi":-97,"raw":12.18,"distance":12.18,"var":0.00,"int":1}',
        [
            Report(
                "office",
                bytes.fromhex("1aff4c00021541caeee65dd2467c9b9def31cbce744500649c44c5"),
                -97,
                "51:44:F3:3B:19:FA",
            )
        ],
    ),
    "ESPresense, a stranger": Vector(
        "espresense",
        "github.com/ESPresense/ESPresense issue 41 (1.5.2)",
        "espresense/devices/dc3056789abc/maison",
        '{"id":"dc3056789abc","name":"MH","rssi@1m":-59,"rssi":-75,"mac":"dc3056789abc","raw":2.87,"distance":2.26,"speed":0}',
        [Report("maison", b"", -75, "DC:30:56:78:9A:BC")],
    ),
    "ESPresense, an iBeacon's id without dashes": Vector(
        "espresense",
        "the id: github.com/ESPresense/ESPresense issue 41 (1.5.2); the other fields as in its sibling there",
        "espresense/devices/iBeacon:770cddcb2d3e145784de5874ce581250-1-2/maison",
        '{"id":"iBeacon:770cddcb2d3e145784de5874ce581250-1-2","rssi@1m":-59,"rssi":-75,"raw":2.87,"distance":2.26,"speed":0}',
        [Report("maison", bytes.fromhex("1aff4c000215770cddcb2d3e145784de5874ce58125000010002c5"), -75)],
    ),
    "OpenMQTTGateway, an iBeacon": Vector(
        "openmqttgateway",
        "github.com/1technophile/OpenMQTTGateway docs/use/ble.md",
        "home/OpenMQTTGateway/BTtoMQTT/58782076BC24",
        '{"id":"58:78:20:76:BC:24","mac_type":1,"rssi":-79,"brand":"GENERIC","model":"iBeacon","model_id":"IBEACON","mfid":"4c00",'
        '"uuid":"1de4b189115e45f6b44e509352269977","major":0,"minor":0,"txpower":-66}',
        [
            Report(
                "OpenMQTTGateway",
                bytes.fromhex("1aff4c0002151de4b189115e45f6b44e50935226997700000000be"),
                -79,
                "58:78:20:76:BC:24",
            )
        ],
    ),
    "OpenMQTTGateway, an iBeacon named by its UUID": Vector(
        "openmqttgateway",
        "github.com/1technophile/OpenMQTTGateway docs/use/ble.md (presuseuuid)",
        "home/OpenMQTTGateway/BTtoMQTT/1de4b189115e45f6b44e509352269977",
        '{"id":"1de4b189115e45f6b44e509352269977","mac_type":1,"rssi":-78,"distance":7.85288,"brand":"GENERIC","model":"iBeacon",'
        '"model_id":"IBEACON","mfid":"4c00","uuid":"1de4b189115e45f6b44e509352269977","major":0,"minor":0,"txpower":-66,'
        '"mac":"60:87:57:4C:9B:C2"}',
        [
            Report(
                "OpenMQTTGateway",
                bytes.fromhex("1aff4c0002151de4b189115e45f6b44e50935226997700000000be"),
                -78,
                "60:87:57:4C:9B:C2",
            )
        ],
    ),
    "OpenMQTTGateway, service data as on the air": Vector(
        "openmqttgateway",
        "github.com/1technophile/OpenMQTTGateway docs/use/ble.md (pubadvdata)",
        "home/OpenMQTTGateway/BTtoMQTT/112233445566",
        '{"id":"11:22:33:44:55:66","mac_type":0,"adv_type":0,"name":"Qingping Motion & Light","rssi":-93,"servicedata":'
        '"88121122334455660201520f0126090403000000","servicedatauuid":"0xfdcd","brand":"Qingping","model":"Motion & Light",'
        '"model_id":"CGPR1","lux":3,"batt":82}',
        [
            Report(
                "OpenMQTTGateway",
                bytes.fromhex("1716cdfd88121122334455660201520f0126090403000000"),
                -93,
                "11:22:33:44:55:66",
            )
        ],
    ),
    "OpenMQTTGateway, service data without their UUID": Vector(
        "openmqttgateway",
        "github.com/1technophile/OpenMQTTGateway docs/use/ble.md (before 0.9.7)",
        "home/OpenMQTTGateway/BTtoMQTT/45E174126E00",
        '{"id":"45:e1:74:12:6e:00","rssi":-89,"distance":21.51847,"servicedata":"fe0000000000000000000000000000000000000000"}',
        [Report("OpenMQTTGateway", b"", -89, "45:E1:74:12:6E:00")],
    ),
    "Theengs Gateway, decoded only": Vector(
        "openmqttgateway",
        "github.com/theengs/gateway docs/use/use.md; the address whole, there it is shortened",
        "home/TheengsGateway/BTtoMQTT/F35285F35285",
        '{"name":"F35285","id":"F3:52:85:F3:52:85","rssi":-82,"brand":"BlueMaestro","model":"TempoDisc","model_id":"BM_V23",'
        '"tempc":24.1,"tempf":75.38,"hum":104.7,"dp":24.8,"volt":2.56,"mfr":"Blue Maestro Limited"}',
        [Report("TheengsGateway", b"", -82, "F3:52:85:F3:52:85")],
    ),
    "Theengs Gateway, both data": Vector(
        "openmqttgateway",
        "as github.com/theengs/gateway TheengsGateway/ble_gateway.py (detection_callback) writes them: UUID without 0x",
        "home/TheengsGateway/BTtoMQTT/4F1122334455",
        '{"manufacturerdata": "4c001005031c9ba1c8", "id": "4F:11:22:33:44:55", "rssi": -60, "servicedatauuid": "fff0",'
        ' "servicedata": "11c58a4061daf88a329d6160529fbe31d8c5"}',
        [
            Report(
                "TheengsGateway",
                bytes.fromhex("0aff4c001005031c9ba1c8 1516f0ff11c58a4061daf88a329d6160529fbe31d8c5"),
                -60,
                "4F:11:22:33:44:55",
            )
        ],
    ),
    "raddec, two receivers": Vector(
        "raddec",
        "github.com/reelyactive/barnowl-reel README.md; the topic as in barnacles-mqtt lib/barnaclesmqtt.js",
        "paretoanywhere/devices/fee150bada55/3/raddec",
        '{"transmitterId":"fee150bada55","transmitterIdType":3,"rssiSignature":[{"receiverId":"001bc50940810000","receiverIdType":1,'
        '"rssi":-83,"numberOfDecodings":1},{"receiverId":"001bc50940810001","receiverIdType":1,"rssi":-91,"numberOfDecodings":1}],'
        '"packets":["421655daba50e1fe0201050c097265656c79416374697665"],"timestamp":1547693457133}',
        [
            Report(f"001bc5094081000{n}", b"\x02\x01\x05\x0c\x09reelyActive", rssi, "FE:E1:50:BA:DA:55", 1547693457133)
            for n, rssi in ((0, -83), (1, -91))
        ],
    ),
    "raddec, two packets": Vector(
        "raddec",
        "github.com/reelyactive/raddec test/unit/raddec.test.js (0.6.2)",
        "paretoanywhere/devices/aabbccddeeff/2/raddec",
        '{"transmitterId":"aabbccddeeff","transmitterIdType":2,"rssiSignature":[{"receiverId":"001bc50940810000","receiverIdType":1,'
        '"rssi":-69,"numberOfDecodings":1}],"packets":["061bffeeddccbbaa02010611074449555520657669746341796c656572",'
        '"061bffeeddccbbaa02010611074449555520657669746341796c65656c"],"timestamp":1420075425678}',
        [
            Report("001bc50940810000", bytes.fromhex(data), -69, "AA:BB:CC:DD:EE:FF", 1420075425678)
            for data in (
                "02010611074449555520657669746341796c656572",
                "02010611074449555520657669746341796c65656c",
            )
        ],
    ),
}


@pytest.mark.parametrize("vector", VECTORS.values(), ids=VECTORS)
def test_what_was_received_is_read(vector: Vector) -> None:
    assert read(vector.kind, vector.topic, vector.payload) == vector.expected


BIRTHS_AND_WILLS = {
    # src/main.cpp: statusTopic, setWill
    ("espresense", "espresense/rooms/dairy_1/status", b"online"): Life("dairy_1", True),
    ("espresense", "espresense/rooms/dairy_1/status", b"offline"): Life("dairy_1", False),
    ("espresense", "espresense/rooms/dairy_1/name", b"online"): None,
    ("espresense", "espresense/rooms/dairy_1/status", b'{"ip":"10.0.0.1"}'): None,
    # main/User_config.h: will_Topic, will_Message, Gateway_AnnouncementMsg; TheengsGateway/config.py: lwt_topic
    ("openmqttgateway", "home/OpenMQTTGateway/LWT", b"online"): Life("OpenMQTTGateway", True),
    ("openmqttgateway", "home/TheengsGateway/LWT", b"offline"): Life("TheengsGateway", False),
    ("openmqttgateway", "home/OpenMQTTGateway/version", b"offline"): None,
    ("raddec", "paretoanywhere/devices/aabbccddeeff/2/raddec", b"offline"): None,
}


@pytest.mark.parametrize(("told", "expected"), BIRTHS_AND_WILLS.items())
def test_births_and_wills(told: tuple[str, str, bytes], expected: Life | None) -> None:
    kind, topic, payload = told
    assert FORMATS[kind].read_life(levels_below(FORMATS[kind].prefix, topic), payload) == expected


# ---- what can pass ------------------------------------------------------------------------------------------------------------

PASSES = {
    ("espresense", "form U"): True,
    ("espresense", "form S"): False,
    ("espresense", "form M"): False,
    ("espresense", "iBeacon"): True,
    ("openmqttgateway", "form U"): False,
    ("openmqttgateway", "form S"): True,
    ("openmqttgateway", "form M"): True,
    ("openmqttgateway", "iBeacon"): True,
    ("raddec", "form U"): True,
    ("raddec", "form S"): True,
    ("raddec", "form M"): True,
    ("raddec", "iBeacon"): True,
}
ON_THE_AIR = {"form U": FORM_U, "form S": FORM_S, "form M": FORM_M, "iBeacon": BEACON}


def messages(kind: str, data: bytes) -> list[says.Message]:
    if kind == "espresense":
        return [says.espresense("hall", data, -60.25)]
    return says.openmqttgateway("hall", data, -60) if kind == "openmqttgateway" else [says.raddec({"0a": -60}, data)]


@pytest.mark.parametrize(("case", "passes"), PASSES.items())
def test_what_of_an_advertisement_passes(case: tuple[str, str], passes: bool) -> None:
    kind, sent = case
    decoder = Decoder(SERVICE, COMPANY)
    frames = []
    for topic, payload in messages(kind, ON_THE_AIR[sent]):
        reports = read(kind, topic, payload)
        assert isinstance(reports, list)
        assert [(report.rssi_dbm, report.address) for report in reports] == [(-60, says.ADDRESS)]
        frames += [decoder.decode(report.data) for report in reports]
    assert frames == [Decoder(SERVICE, COMPANY).decode(ON_THE_AIR[sent]) if passes else None]


def test_an_espresense_id_of_a_token_may_end_with_the_tx_power() -> None:
    for tx_power in (-21, -1, 0, 8, 12):
        data = FORM_U + bytes((2, 0x0A, tx_power % 256))
        reports = read("espresense", *says.espresense("hall", data, -60))
        assert isinstance(reports, list)
        assert reports[0].data == FORM_U[3:]


@pytest.mark.parametrize(
    "extra", [encode([AdStructure(9, b"phone")]), encode([AdStructure(3, b"\x0f\x18")])], ids=["name", "uuid"]
)
def test_an_espresense_token_beside_a_name_or_another_uuid_is_lost(extra: bytes) -> None:
    [report] = read("espresense", *says.espresense("hall", FORM_U + extra, -60)) or []  # type: ignore[misc]
    assert report.data == b""


# ---- what cannot be -----------------------------------------------------------------------------------------------------------

ESP = "espresense/devices/x/hall"
OMG = "home/gw/BTtoMQTT/x"
RAD = "paretoanywhere/devices/x/3/raddec"
PACKET = "420755daba50e1fe02"
SIGNED: dict[str, Any] = {"transmitterIdType": 3, "packets": [PACKET], "rssiSignature": [{"receiverId": "0a", "rssi": -60}]}

OTHERS: dict[str, tuple[str, str, dict[str, Any], str | None]] = {
    "another topic": ("espresense", "espresense/devices/x/hall/battery", {"id": "x", "rssi": -60}, None),
    "a topic of nobody": ("espresense", "other/devices/x/hall", {"id": "x", "rssi": -60}, None),
    "no id": ("espresense", ESP, {"rssi": -60}, "sanity"),
    "an id that is no text": ("espresense", ESP, {"id": ["iBeacon"], "rssi": -60}, "sanity"),
    "no RSSI": ("espresense", ESP, {"id": "x"}, "sanity"),
    "an RSSI that no radio has": ("espresense", ESP, {"id": "x", "rssi": -128}, "sanity"),
    "an RSSI as text": ("espresense", ESP, {"id": "x", "rssi": "-60"}, "sanity"),
    "a major that is too large": (
        "espresense",
        ESP,
        {"id": "iBeacon:" + "a0" * 16 + "-65536-1", "rssi": -60, "rssi@1m": -59},
        "sanity",
    ),
    "no power at 1 m": ("espresense", ESP, {"id": "iBeacon:" + "a0" * 16 + "-1-1", "rssi": -60}, "sanity"),
    "an answer to a command": ("openmqttgateway", OMG, {"id": "AA:BB:CC:DD:EE:FF", "success": False}, None),
    "the settings": ("openmqttgateway", "home/gw/BTtoMQTT", {"bleconnect": True, "rssi": -60}, None),
    "odd digits": ("openmqttgateway", OMG, {"rssi": -60, "manufacturerdata": "4c001"}, "length"),
    "scrubbed digits": ("openmqttgateway", OMG, {"rssi": -42, "manufacturerdata": "2c0q1006191e7v30x6fa"}, "length"),
    "half a company": ("openmqttgateway", OMG, {"rssi": -60, "manufacturerdata": "4c"}, "length"),
    "more data than a structure holds": ("openmqttgateway", OMG, {"rssi": -60, "manufacturerdata": "4c" * 255}, "length"),
    "more service data": ("openmqttgateway", OMG, {"rssi": -60, "servicedata": "00" * 253, "servicedatauuid": "fff0"}, "length"),
    "a UUID that is no text": ("openmqttgateway", OMG, {"rssi": -60, "servicedata": "00", "servicedatauuid": 7}, "length"),
    "half a beacon": ("openmqttgateway", OMG, {"rssi": -60, "model_id": "IBEACON", "uuid": "a0" * 16, "major": 1}, "sanity"),
    "an RFID tag": ("raddec", RAD, {**SIGNED, "transmitterIdType": 5}, None),
    "nobody hears it any more": ("raddec", RAD, {**SIGNED, "events": [4]}, None),
    "no receiver": ("raddec", RAD, {**SIGNED, "rssiSignature": []}, None),
    "no receiver that has a name": ("raddec", RAD, {**SIGNED, "rssiSignature": [{"rssi": -60}, 7]}, "sanity"),
    "a signature that is none": ("raddec", RAD, {**SIGNED, "rssiSignature": "0a"}, "integrity"),
    "a packet that is cut off": ("raddec", RAD, {**SIGNED, "packets": [PACKET[:-2]]}, "length"),
    "a packet of another kind": ("raddec", RAD, {**SIGNED, "packets": ["41" + PACKET[2:]]}, "length"),
    "a packet that is no text": ("raddec", RAD, {**SIGNED, "packets": [7]}, "length"),
}


@pytest.mark.parametrize(("kind", "topic", "fields", "rejected"), OTHERS.values(), ids=OTHERS)
def test_what_is_no_report(kind: str, topic: str, fields: dict[str, Any], rejected: str | None) -> None:
    found = read(kind, topic, json.dumps(fields))
    assert found == (None if rejected is None else Reject(kind, rejected))  # type: ignore[arg-type]


def test_one_broken_packet_does_not_cost_the_others() -> None:
    reports = read("raddec", RAD, json.dumps({**SIGNED, "packets": ["zz", PACKET]}))
    assert reports == [Report("0a", b"\x02", -60)]


def test_a_raddec_makes_a_bounded_number_of_reports() -> None:
    fields = {**SIGNED, "packets": [PACKET] * 500, "rssiSignature": SIGNED["rssiSignature"] * 500}
    reports = read("raddec", RAD, json.dumps(fields))
    assert isinstance(reports, list)
    assert len(reports) == 15 * 15


def test_the_settings_know_every_format() -> None:
    assert set(get_args(ForeignReceivers.model_fields["kind"].annotation)) == FORMATS.keys()


# ---- whatever they say --------------------------------------------------------------------------------------------------------

KEYS = [
    "id",
    "mac",
    "rssi",
    "rssi@1m",
    "manufacturerdata",
    "servicedata",
    "servicedatauuid",
    "model_id",
    "uuid",
    "major",
    "minor",
]
KEYS += ["txpower", "unixtime", "transmitterId", "transmitterIdType", "rssiSignature", "packets", "events", "timestamp"]
KEYS += ["receiverId", "receiverIdType", "numberOfDecodings"]
TEXTS = ["IBEACON", "iBeacon:" + "0f" * 16 + "-99999-1", "ad:" + "0f" * 16, "4c000215", "0xfff0", PACKET, "0a", ""]
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(TEXTS)
values = st.recursive(
    scalars | st.integers(-130, 130),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)
topics = st.sampled_from([["devices", "x", "hall"], ["gw", "BTtoMQTT", "x"], ["devices", "x", "3", "raddec"]])


@given(
    st.sampled_from(sorted(FORMATS)),
    topics | st.lists(st.text(max_size=4), max_size=5),
    st.dictionaries(st.sampled_from(KEYS), values),
    st.binary(max_size=8),
)
def test_no_value_raises(kind: str, levels: list[str], fields: dict[str, object], payload: bytes) -> None:
    found = FORMATS[kind].read(levels, fields)
    life = FORMATS[kind].read_life(levels, payload)
    assert found is None or isinstance(found, list | Reject)
    assert life is None or isinstance(life, Life)
    for report in found if isinstance(found, list) else []:
        assert -127 < report.rssi_dbm <= 20
        Decoder(SERVICE, COMPANY).decode(report.data)


@given(st.binary(max_size=249), st.integers(-126, 20))
def test_a_raddec_passes_every_octet(data: bytes, rssi_dbm: int) -> None:
    reports = read("raddec", *says.raddec({"0a": rssi_dbm}, data))
    assert reports == [Report("0a", data, rssi_dbm, says.ADDRESS)]


@given(st.binary(min_size=2, max_size=254), st.binary(min_size=2, max_size=254))
def test_openmqttgateway_passes_manufacturer_and_service_data(company: bytes, service: bytes) -> None:
    data = encode([AdStructure(0xFF, company), AdStructure(0x16, service)])
    [message] = says.openmqttgateway("hall", data, -60)
    assert read("openmqttgateway", *message) == [Report("hall", data, -60, says.ADDRESS)]


@given(st.binary(min_size=16, max_size=16))
def test_espresense_passes_every_list_of_one_uuid(uuid: bytes) -> None:
    data = encode([AdStructure(7, uuid)])
    assert read("espresense", *says.espresense("hall", data, -60)) == [Report("hall", data, -60, says.ADDRESS)]


@given(st.binary(min_size=16, max_size=16), st.integers(0, 65535), st.integers(0, 65535), st.integers(-128, 127))
def test_espresense_passes_every_ibeacon(uuid: bytes, major: int, minor: int, measured_power_dbm: int) -> None:
    power = measured_power_dbm.to_bytes(1, signed=True)
    data = encode([AdStructure(0xFF, b"\x4c\x00\x02\x15" + uuid + major.to_bytes(2) + minor.to_bytes(2) + power)])
    [report] = read("espresense", *says.espresense("hall", data, -60)) or []  # type: ignore[misc]
    assert Decoder().decode(report.data) == IBeacon(uuid, major, minor, measured_power_dbm)


# ---- late and twice -----------------------------------------------------------------------------------------------------------


def stamped(stamp_ms: int | None, rssi_dbm: int = -60, receiver: str = "hall") -> Report:
    return Report(receiver, b"", rssi_dbm, None, stamp_ms)


@pytest.mark.parametrize(
    ("second", "after_ms", "verdict"),
    [
        (Report("hall", b"a", -60), REPEATED_MS - 1, "duplicate"),
        (Report("hall", b"a", -60), REPEATED_MS, None),
        (Report("hall", b"a", -61), 0, None),
        (Report("hall", b"b", -60), 0, None),
        (Report("door", b"a", -60), 0, None),
        (Report("hall", b"a", -60, "4F:11:22:33:44:55"), 0, None),
        (Report("hall", b"a", -60, None, 17), 0, "duplicate"),
    ],
    ids=["the same", "the same later", "another RSSI", "other data", "another receiver", "another address", "a new stamp"],
)
def test_the_same_report_counts_once_a_second(second: Report, after_ms: int, verdict: str | None) -> None:
    freshness = Freshness()
    assert freshness.judge(Report("hall", b"a", -60), 1000) is None
    assert freshness.judge(second, 1000 + after_ms) == verdict


@given(st.integers(0, 253_402_300_000_000), st.lists(st.integers(0, LATE_MS), max_size=50))
def test_a_clock_may_be_wrong_by_any_time(their_start_ms: int, delays_ms: list[int]) -> None:
    freshness = Freshness()
    for second, delay_ms in enumerate(delays_ms):
        assert freshness.judge(stamped(their_start_ms + second * 2000 + LATE_MS - delay_ms), second * 2000) is None


def test_what_waited_is_late_also_after_a_long_silence() -> None:
    freshness = Freshness()
    assert freshness.judge(stamped(1_000_000), 100) is None
    back_ms = 3_600_000
    flushed = [freshness.judge(stamped(1_000_000 + s * 1000), back_ms + s) for s in range(60, 3590, 10)]
    assert set(flushed) == {"late"}
    assert freshness.judge(stamped(1_000_000 + back_ms), back_ms + 4000) is None


def test_one_late_receiver_costs_no_other() -> None:
    freshness = Freshness()
    assert freshness.judge(stamped(50_000), 50_000) is None
    assert freshness.judge(stamped(50_000, -60, "door"), 90_000) is None
    assert freshness.judge(stamped(50_000, -61), 90_000) == "late"


def test_a_clock_that_is_set_back_is_believed_again_within_a_minute_of_reports() -> None:
    freshness = Freshness()
    assert freshness.judge(stamped(10_000_000), 0) is None
    verdicts = [freshness.judge(stamped(1_000 + s * 1000), s * 1000) for s in range(1, 90)]
    assert verdicts[0] == "late"
    assert verdicts[60:] == [None] * len(verdicts[60:])


@given(st.integers(1, 3))
def test_what_is_remembered_is_bounded(step_ms: int) -> None:
    freshness = Freshness()
    for number in range(MOST_REMEMBERED + 500):
        freshness.judge(Report(f"{number}", b"", -60, None, number), number * step_ms // 3)
    assert len(freshness) <= MOST_REMEMBERED
    freshness.judge(Report("last", b"", -60), 10_000_000)
    assert len(freshness._seen) == 1
