"""In-store BLE proximity gateway: advertisements go in, offers in the shopper's app come out."""

__version__ = "0.1.0"
