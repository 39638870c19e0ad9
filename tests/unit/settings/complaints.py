"""The one line that settings are refused with."""

import pytest

from core.settings import SettingsError, load_settings


def complaint() -> str:
    """Read the settings, which must be refused, and return what is said."""
    with pytest.raises(SettingsError) as error:
        load_settings()
    message = str(error.value)
    assert "\n" not in message
    return message
