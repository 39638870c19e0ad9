"""The types of settings and their checks. Error messages never repeat a secret."""

import re
from ipaddress import ip_network
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, SecretStr

from core.domain.texts import without_directions
from core.domain.throttles import Rate
from core.settings.key_lists import SHORTEST_KEY_BYTES, parse_keys, parse_token_keys


def _at_least_32_bytes(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value().encode()) < SHORTEST_KEY_BYTES:
        raise ValueError(f"needs at least {SHORTEST_KEY_BYTES} bytes")
    return secret


def _known_time_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("must be a time zone of the IANA database, like Europe/Berlin") from None
    return name


def _rate(text: str) -> str:
    Rate.parse(text)
    return text


def _keys_by_version(secret: SecretStr) -> SecretStr:
    parse_keys(secret.get_secret_value())
    return secret


def _token_keys(secret: SecretStr) -> SecretStr:
    parse_token_keys(secret.get_secret_value())
    return secret


def _proxies(text: str) -> str:
    """Check the proxies that may report a client's address. The server would take a misspelt network for a name."""
    items = [item.strip() for item in text.split(",")] if text.strip() else []
    for item in items:
        try:
            network = ip_network(item)
        except ValueError:
            raise ValueError(f"{item!r} is not an address or a network, like 127.0.0.1 or 10.0.0.0/8") from None
        if network.prefixlen == 0:
            raise ValueError(f"{item} matches every client, so every client could claim any address")
    return ",".join(items)


def _origins(text: str) -> str:
    """Check the origins whose pages may call the API: exact origins (RFC 6454), as browsers write them, no patterns."""
    items = [item.strip() for item in text.split(",") if item.strip()]
    for item in items:
        if not _ORIGIN.fullmatch(item):
            raise ValueError(f"{item!r} is not an origin as browsers write it, like https://bank.example.com")
    return ",".join(items)


_ORIGIN = re.compile(r"https?://([a-z0-9-]+(\.[a-z0-9-]+)*|\[[0-9a-f:.]+\])(?!:(80|443)$)(:[1-9][0-9]{0,4})?")
"""A scheme, a host and a port, and nothing else: no path, no capitals, no `*`, and no port that is the default."""

Port = Annotated[int, Field(ge=0, le=65535)]
Secret = Annotated[SecretStr, AfterValidator(_at_least_32_bytes)]
CardKeysText = Annotated[SecretStr, AfterValidator(_keys_by_version)]
TokenKeysText = Annotated[SecretStr, AfterValidator(_token_keys)]
TimeZone = Annotated[str, AfterValidator(_known_time_zone)]
Proxies = Annotated[str, AfterValidator(_proxies)]
Origins = Annotated[str, AfterValidator(_origins)]
ShownText = Annotated[str, AfterValidator(without_directions)]
RateText = Annotated[str, AfterValidator(_rate)]
