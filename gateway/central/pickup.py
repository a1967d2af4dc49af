"""What the people in a shop are told of orders that are fetched, in their language."""

from gateway.central.shopping import WebOrder
from gateway.contract.messages import StaffPickup, StaffPickupData

_COMES = (
    "Somebody comes for order {order} (seen in {zone}): please have it at hand.",
    "Jemand holt Bestellung {order} ab (gesehen in {zone}): bitte bereitlegen.",
)
_OVER = {
    "collected": ("Order {order} has been collected.", "Bestellung {order} ist abgeholt."),
    "returned": ("Order {order} has been returned.", "Bestellung {order} ist zurückgegeben."),
}


def pickup_alarm(order: WebOrder, visit: str, zone: str, source: str, now_ms: int) -> StaffPickup:
    """Its owner is in the shop."""
    english, german = (text.format(order=order.number, zone=zone) for text in _COMES)
    data = StaffPickupData(
        store=order.store, order=order.number, zone=zone, time=now_ms, is_over=False, text={"en": english, "de": german}
    )
    return StaffPickup(id=pickup_id(order, visit), source=source, time=now_ms, data=data)


def pickup_over(order: WebOrder, visit: str, source: str) -> StaffPickup:
    """Nobody has to be served for it any more."""
    english, german = (text.format(order=order.number) for text in _OVER[order.state])
    data = StaffPickupData(
        store=order.store, order=order.number, time=order.changed_ms, is_over=True, text={"en": english, "de": german}
    )
    return StaffPickup(id=f"{pickup_id(order, visit)}-over", source=source, time=order.changed_ms, data=data)


def pickup_id(order: WebOrder, visit: str) -> str:
    """One for each order and visit; ``records.opt_out`` knows its form."""
    return f"{order.store}-{order.number}-{visit}-pickup"
