"""`giro settings`."""

import json
import re
from pathlib import Path

import pytest

from core.settings import Settings, load_settings, variable
from core.storage.sqlite.engine import Database
from tests.unit.cli.test_cli import giro


class TestSettings:
    def test_are_shown_with_their_source(self, clean_environment: pytest.MonkeyPatch, database: Database) -> None:
        clean_environment.setenv("GIRO_PORT", "8123")
        said = giro("settings").stdout
        assert "GIRO_PORT=8123  (environment)" in said
        assert "GIRO_HOST=127.0.0.1  (default)" in said

    def test_secrets_are_masked(self, clean_environment: pytest.MonkeyPatch, database: Database) -> None:
        clean_environment.setenv("JWT_SECRET", "a secret that nobody may read here")
        said = giro("settings").stdout
        assert "a secret that nobody" not in said
        assert "JWT_SECRET=**********  (environment)" in said
        as_json = giro("settings", "--json").stdout
        assert "a secret that nobody" not in as_json
        (found,) = [line for line in map(json.loads, as_json.splitlines()) if line["name"] == "JWT_SECRET"]
        assert (found["value"], found["source"]) == ("**********", "environment")

    def test_json_has_every_setting_once(self, clean_environment: pytest.MonkeyPatch, database: Database) -> None:
        names = [json.loads(line)["name"] for line in giro("settings", "--json").stdout.splitlines()]
        assert sorted(names) == sorted(variable(name) for name in Settings.model_fields)

    def test_the_example_sets_nothing_until_its_lines_are_uncommented(
        self, clean_environment: pytest.MonkeyPatch, database: Database
    ) -> None:
        example = giro("settings", "--example").stdout
        defaults = load_settings(_env_file=None, data_dir=Path("data"))
        Path(".env").write_text(example)
        assert set(load_settings().sources().values()) == {"default"}
        Path(".env").write_text(re.sub(r"^#(?=[A-Z_]+=)", "", example, flags=re.MULTILINE))
        assert load_settings() == defaults, "and then its values are the defaults"
