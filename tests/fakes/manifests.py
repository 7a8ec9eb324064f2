"""What a bundle's manifest says, of a bundle with one small file."""

from typing import Any


def manifest_content(**changes: Any) -> dict[str, Any]:
    """The content but for the digests, with some of it changed."""
    content: dict[str, Any] = {
        "name": "test",
        "vocabulary": {"text_size": 300, "codebook_size": 8192},
        "grid": [16, 16],
        "stride": 16,
        "max_text_tokens": 30,
        "image_tokenizer": "compact",
        "files": {"text_tokenizer": "text.json"},
        "defaults": {"steps": 8, "guidance": 1.5, "max_new_tokens": 16},
    }
    return {**content, **changes}
