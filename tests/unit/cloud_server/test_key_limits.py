"""What a file of keys may say behind a name and its key."""

import pytest

from cloud_server.keys import KeyLimits, Keyring, read_keys, read_named_keys
from shared_protocol.errors import ConfigError


def test_limits_stand_behind_name_and_key(tmp_path):
    file = tmp_path / "keys"
    file.write_text("ann key-a requests=60 tokens=1000000\nbob key=b== tokens=0 # free\ncy key-c\n")
    file.chmod(0o600)
    ring = Keyring("plain", file)
    assert ring.limits("ann") == KeyLimits(60, 1_000_000)
    assert ring.limits("bob") == KeyLimits(None, 0)
    assert ring.limits("cy") == ring.limits("default") == ring.limits("nobody") == KeyLimits()
    assert ring.owner("Bearer key=b==") == "bob"
    assert read_keys(file)["ann"] == "key-a"
    assert "key-a" not in repr(read_named_keys(file))


@pytest.mark.parametrize(
    "line",
    [
        "secret requests=5",  # would make "requests=5" the key, and the key a name
        "requests=5",
        "ann secret requests=-1",
        "ann secret requests=1.5",
        "ann secret requests=5 requests=6",
        "ann secret words=5",
        "ann secret requests = 5",
        "ann secret 60",
    ],
)
def test_a_limit_that_cannot_be_read_is_told_without_the_key(tmp_path, line):
    file = tmp_path / "keys"
    file.write_text(f"{line}\n")
    with pytest.raises(ConfigError, match="line 1") as caught:
        read_named_keys(file)
    assert "secret" not in str(caught.value)
