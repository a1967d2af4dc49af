"""What the demo shop promotes: a push per zone with something to say, one card without a push, one that is out of its hours."""

from gateway.contract.promotions import Promotion

_SOON_S = 300


def demo_promotions() -> tuple[Promotion, ...]:
    """Promotions for the zones of the demo floor plan; the simulated day is a Monday at five in the afternoon."""
    return tuple(
        Promotion.model_validate(document)
        for document in (
            {
                "promotion_id": "fresh-bread-20",
                "long_title": {"de": "20 % auf frisches Brot", "en": "20 % off fresh bread"},
                "text": {"de": "Bis Ladenschluss.", "en": "Until we close."},
                "offer_type": "generic_code",
                "generic_redemption_code": "BROT20",
                "zones": ["bakery"],
                "windows": [{"start": "16:00", "end": "20:00"}],
                "priority": 20,
                "deadline_s": _SOON_S,
            },
            {
                "promotion_id": "breakfast-deal",
                "long_title": {"de": "Frühstück für 3,90 €", "en": "Breakfast for € 3.90"},
                "zones": ["bakery"],
                "windows": [{"weekdays": ["mon", "tue", "wed", "thu", "fri"], "start": "07:00", "end": "10:00"}],
                "priority": 30,
                "deadline_s": _SOON_S,
            },
            {
                "promotion_id": "yoghurt-monday",
                "long_title": {"de": "Montags: 3 Joghurts zum Preis von 2", "en": "Mondays: 3 yoghurts for the price of 2"},
                "zones": ["dairy"],
                "windows": [{"weekdays": ["mon"]}],
                "priority": 10,
                "deadline_s": _SOON_S,
            },
            {
                "promotion_id": "wine-tasting",
                "kind": "info",
                "long_title": {"de": "Weinprobe um 18 Uhr", "en": "Wine tasting at six"},
                "tags": ["alcohol"],
                "priority": 5,
                "deadline_s": _SOON_S,
            },
            {
                "promotion_id": "riesling-5",
                "long_title": {"de": "5 € auf zwei Flaschen Riesling", "en": "€ 5 off two bottles of Riesling"},
                "offer_type": "generic_code",
                "generic_redemption_code": "RIESLING5",
                "zones": ["wine"],
                "priority": 10,
                "deadline_s": _SOON_S,
            },
        )
    )
