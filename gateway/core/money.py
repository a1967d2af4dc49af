"""An amount of money: decimal, with its currency, never a float."""

from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Money:
    """Such as 12.50 EUR; amounts of different currencies are different and cannot be ordered."""

    amount: Decimal
    currency: str
    """ISO 4217, three capitals."""

    def __str__(self) -> str:
        return f"{self.amount} {self.currency}"
