import argparse
from pathlib import Path

import pytest

from cloud_server.training.recipes.backbone import recipe as backbone
from shared_protocol.bundles.find import load_bundle
from shared_protocol.errors import ConfigError


def test_folder_without_scenes_says_how_to_make_some(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    backbone.add_arguments(parser)
    words = load_bundle("builtin").path("text_tokenizer")
    flags = ["--tokens", tmp_path, "--text-tokenizer", words, "--out", tmp_path / "out", "--smoke"]
    args = parser.parse_args([str(flag) for flag in flags])
    with pytest.raises(ConfigError, match="cloud-server train token-cache"):
        backbone.run(args)
