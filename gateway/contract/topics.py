"""The topics of the wire contract, version 1: the only place that spells them."""

CENTRAL_STATE = "central/state"


class StoreTopics:
    """Topics of one store as one of its gateways uses them."""

    def __init__(self, store: str, gateway: str) -> None:
        self.store = store
        self.source = f"stores/{store}/gateways/{gateway}"
        """CloudEvents ``source`` of the gateway's messages."""
        self.down = f"stores/{store}/down/"
        up, down = f"stores/{store}/up/{gateway}", f"stores/{store}/down"
        self.status = f"{up}/status"
        self.event = f"{up}/event"
        self.telemetry = f"{up}/telemetry"
        self.sighting = f"{up}/sighting"
        self.every_status = f"stores/{store}/up/+/status"
        """Of all gateways of the store."""
        self.every_sighting = f"stores/{store}/up/+/sighting"
        self.catalogue = f"{down}/catalogue"
        self.roster_delta = f"{down}/roster/delta"
        self.any_roster = f"{down}/roster/+/+"
        self.ack = f"{down}/{gateway}/ack"
        self.decision = f"{down}/{gateway}/decision"
        self.staff = f"stores/{store}/staff"
        self.any_shopper = f"{down}/shopper/+"
        self.till_receipt = f"stores/{store}/in/receipt"
        self.order = f"stores/{store}/in/order"

    def shopper(self, pseudonym: str) -> str:
        """Signed, not retained: what is known of one shopper today."""
        return f"stores/{self.store}/down/shopper/{pseudonym}"

    def roster_manifest(self, day: int) -> str:
        """Retained and signed: the hashes of the day's chunks."""
        return f"stores/{self.store}/down/roster/{day}/manifest"

    def roster_chunk(self, day: int, index: int) -> str:
        """Retained and signed: at most 10,000 records of the day."""
        return f"stores/{self.store}/down/roster/{day}/{index}"


ANY_STATUS = "stores/+/up/+/status"
ANY_EVENT = "stores/+/up/+/event"
ANY_TELEMETRY = "stores/+/up/+/telemetry"
ANY_RECEIPT = "app/+/receipt"
ANY_WISH = "app/+/wish"
ANY_TILL_RECEIPT = "stores/+/in/receipt"
ANY_ORDER = "stores/+/in/order"
PROFILE = "chain/in/profile"
"""CRM → central."""


def app_offer(inbox: str) -> str:
    """Central → app."""
    return f"app/{inbox}/offer"


def app_receipt(inbox: str) -> str:
    """App → central."""
    return f"app/{inbox}/receipt"


def app_wish(inbox: str) -> str:
    """App → central."""
    return f"app/{inbox}/wish"


def entrance_of(topic: str) -> tuple[str, str] | None:
    """(store, what) of what a store's back office tells central, or ``None`` where it is none.

    >>> entrance_of("stores/4711/in/order")
    ('4711', 'order')
    """
    parts = topic.split("/")
    return (parts[1], parts[3]) if len(parts) == 4 and parts[0] == "stores" and parts[2] == "in" else None


def gateway_of(topic: str) -> tuple[str, str] | None:
    """(store, gateway) of an uplink topic, or ``None`` where it is none.

    >>> gateway_of("stores/4711/up/pi-1/event")
    ('4711', 'pi-1')
    """
    parts = topic.split("/")
    return (parts[1], parts[3]) if len(parts) == 5 and parts[0] == "stores" and parts[2] == "up" else None


def inbox_of(topic: str) -> str | None:
    """The inbox of an app's topic.

    >>> inbox_of("app/anna-1/receipt")
    'anna-1'
    """
    parts = topic.split("/")
    return parts[1] if len(parts) == 3 and parts[0] == "app" else None
