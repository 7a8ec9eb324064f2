"""Settings and where the key comes from."""

import math

import pytest

from cloud_server.settings import API_KEY_VARIABLE, Settings, choose_api_key
from shared_protocol.errors import ConfigError


def test_defaults_fit_together():
    assert Settings().port == 8400


@pytest.mark.parametrize(
    "bad",
    [
        {"port": -1},
        {"port": 65536},
        {"device": "tpu"},
        {"device": "cuda:"},
        {"log_level": "loud"},
        {"max_queue": 0},
        {"max_body": 1},
        {"max_grid": 65},
        {"max_steps": 101},
        {"max_new_tokens": 513},
        {"request_timeout": 0},
        {"request_timeout": math.nan},
        {"request_timeout": math.inf},
        {"body_timeout": -1},
        {"threads": -1},
        {"api_key": ""},
        {"api_key": "two words"},
        {"api_key": "schlüssel"},
        {"api_key": "line\n"},
        {"max_inflight": 8, "max_queue": 9},
        {"cuda_graphs": True, "device": "cpu"},
        {"entropy_device": "tpu"},
    ],
    ids=str,
)
def test_a_bad_value_is_refused_with_a_remedy(bad):
    with pytest.raises(ConfigError) as caught:
        Settings(**bad)
    assert caught.value.remedy


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:3"])
def test_devices_that_torch_names_are_taken(device):
    assert Settings(device=device).device == device


def test_the_key_is_never_shown():
    assert "hush" not in repr(Settings(api_key="hush"))


def test_a_given_key_wins_over_a_file_and_a_file_over_the_environment(tmp_path):
    file = tmp_path / "key"
    file.write_text("from-file\n")
    environment = {API_KEY_VARIABLE: "from-environment"}
    assert choose_api_key("given", file, environment) == "given"
    assert choose_api_key(None, file, environment) == "from-file"
    assert choose_api_key(None, None, environment) == "from-environment"
    assert choose_api_key(None, None, {}) is None


@pytest.mark.parametrize("key", ["", " "])
def test_an_empty_key_in_the_environment_does_not_serve_everybody(key):
    with pytest.raises(ConfigError, match="unset UNIMIC_API_KEY"):
        choose_api_key(None, None, {API_KEY_VARIABLE: key})


def test_a_host_in_brackets_is_the_host():
    assert Settings(host="[::1]").host == "::1"


@pytest.mark.parametrize(
    ("given", "kept"), [("", ""), ("/", ""), ("/unimic/", "/unimic"), ("/a/b-c", "/a/b-c")]
)
def test_a_root_path_is_kept_without_its_last_slash(given, kept):
    assert Settings(root_path=given).root_path == kept


@pytest.mark.parametrize("path", ["unimic", "/a b", "/a?b", "/v1", "/v1/x", "/healthz"])
def test_a_root_path_that_cannot_be_told_from_other_paths_is_refused(path):
    with pytest.raises(ConfigError, match=r"(such as|like) /unimic"):
        Settings(root_path=path)


def test_a_server_needs_a_port_or_a_socket():
    with pytest.raises(ConfigError, match="--port or --unix"):
        Settings(port=None)


def test_a_key_file_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot read"):
        choose_api_key(None, tmp_path / "missing", {})


def test_an_empty_key_file_does_not_open_the_server_to_everybody(tmp_path):
    file = tmp_path / "key"
    file.write_text("\n")
    with pytest.raises(ConfigError):
        Settings(api_key=choose_api_key(None, file, {}))
