"""The one-line message for invalid settings."""

import pytest

from core.settings import SettingsError, load_settings


def complaint() -> str:
    """Read settings that must be rejected, and return the message."""
    with pytest.raises(SettingsError) as error:
        load_settings()
    message = str(error.value)
    assert "\n" not in message
    return message
