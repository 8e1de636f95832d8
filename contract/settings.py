"""Asks a real validator of JSON Schema what `samosa config --schema` accepts, and holds the binary to it."""

import json
import pathlib
import subprocess

import jsonschema_rs
import pytest

ROOT = pathlib.Path(__file__).parent.parent
GOOD = [
    'host = "::1"\nport = 0',
    'internal_api_key = ["one", "two"]\nhf_repo_owner = "you"\nhf_tags = "d20,d32"',
    "default_temperature = 2\nnum_workers = 64\ndefault_step = 0",
    'nanochat_dtype = "float16"\nrestore_last_model = true\nlog_level = "warning"',
    'hf_endpoint = "http://127.0.0.1:1/mirror"\ndefault_model_tag = "d-2.0_x"',
]
WRONG = [
    "prot = 1",
    "port = 65536",
    "num_workers = 0",
    "default_temperature = 2.5",
    "default_top_k = 1.5",
    'host = "inference"',
    'default_model_tag = "../d20"',
    'hf_endpoint = "ftp://mirror"',
    'context_overflow = "shrug"',
    'startup_load_enabled = "perhaps"',
    "hf_tags = [[1]]",
    "internal_api_key = {}",
]


@pytest.fixture(scope="session")
def config(binary, tmp_path_factory):
    """Runs `samosa config` on a file with nothing else around it."""
    path = tmp_path_factory.mktemp("settings") / "samosa.toml"

    def run(text, *arguments):
        path.write_text(text)
        command = [binary, "config", "--config", path, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, env={}, check=False)

    return run


@pytest.fixture(scope="session")
def validator(config):
    schema = json.loads(config("", "--schema").stdout)
    assert schema == json.loads((ROOT / "deploy/samosa.schema.json").read_text()), "the copy in deploy is stale"
    return jsonschema_rs.Draft202012Validator(schema, validate_formats=True)


def parsed(text):
    tomllib = pytest.importorskip("tomllib", reason="Python reads TOML from 3.11 on")
    return tomllib.loads(text)


def test_the_example_is_valid_with_and_without_its_comment_signs(validator):
    text = (ROOT / "deploy/samosa.example.toml").read_text()
    assert parsed(text) == {}
    # What begins with one sign and a key is a value that was put aside; texts have two.
    lines = [line[2:] for line in text.splitlines() if line.startswith("# ") and " = " in line]
    settings = parsed("\n".join(lines))
    assert len(settings) > 30
    validator.validate(settings)


@pytest.mark.parametrize("text", GOOD)
def test_what_the_schema_accepts_the_binary_accepts(validator, config, text):
    validator.validate(parsed(text))
    done = config(text)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("text", WRONG)
def test_what_the_binary_refuses_the_schema_refuses(validator, config, text):
    assert not validator.is_valid(parsed(text))
    done = config(text)
    assert done.returncode == 2 and "samosa.toml" in done.stderr, done.stderr
