"""Which addresses and names are of this machine alone, and how they stand in an address and in a request."""

from __future__ import annotations

import ipaddress
import re


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def in_url(host: str) -> str:
    """A host as it stands in an address: that of IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host


def names_loopback(header: str) -> bool:
    """Whether a Host header names this machine; what cannot be read names another."""
    read = re.fullmatch(r"(?:\[([^\]]*)\]|([^:]*))(?::\d+)?", header)
    return read is not None and is_loopback(read[1] or read[2] or "")
