"""Files of a bundle that are text or tables: manifest, configuration, words, tokenizer, priors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from manifests import manifest_content
from toy_bundle import toy_mask_prior, toy_text_prior

from shared_protocol.bundles.bundle import Bundle
from shared_protocol.bundles.manifest import MANIFEST, manifest_from, read_manifest
from shared_protocol.bundles.published import load_published_folder
from shared_protocol.bundles.weight_files import shards_of, weight_files
from shared_protocol.coding.mask_codec import (
    decode_mask,
    encode_mask,
    load_mask_prior,
    save_mask_prior,
)
from shared_protocol.coding.text_codec import (
    TextCoder,
    TextPrior,
    decode_text,
    dump_text_prior,
    encode_text,
    load_text_prior,
)
from shared_protocol.errors import ConfigError
from shared_protocol.tokenizers.text import TextTokenizer
from shared_protocol.words.known import KnownWords
from targets.target import Read, Target

ERRORS = (ConfigError,)
BUNDLES = "shared_protocol.bundles"
BUILTIN = Path(__file__).parents[3] / "shared_protocol" / "weights" / "builtin"


def _json(content: Any) -> bytes:
    return json.dumps(content).encode()


def prepare_manifest(folder: Path) -> Read:
    """A `bundle.json`, and what a bundle does with it before it opens another file."""
    path = folder / MANIFEST

    def read(data: bytes) -> None:
        path.write_bytes(data)
        manifest = read_manifest(folder)
        again = manifest_from(manifest.content())
        assert again == manifest
        assert again.fingerprint == manifest.fingerprint
        bundle = Bundle(folder, manifest)
        height, width = bundle.grid
        assert 1 <= height * width <= 4096
        for role in manifest.files:
            assert (folder / manifest.files[role]).parent == folder
        assert len(bundle.tokenizer_fingerprint) == 32

    return read


def _manifests() -> Iterator[bytes]:
    digest = {"text.json": "ab" * 32}
    yield _json({**manifest_content(), "sha256": digest})
    typing = {"text": "plain", "world": "w.json", "sha256": "cd" * 32}
    yield _json({**manifest_content(), "sha256": digest, "typing": typing})
    yield (BUILTIN / MANIFEST).read_bytes()


def prepare_configurations(folder: Path) -> Read:
    """A published model's `config.json`, and an index of shards: the first byte chooses."""
    for repository in ("show-o", "magvitv2", "phi-1_5"):
        (folder / repository).mkdir(exist_ok=True)
    (folder / "magvitv2" / "pytorch_model.safetensors").write_bytes(b"")
    (folder / "phi-1_5" / "tokenizer.json").write_bytes(b"{}")
    index = folder / "model.safetensors.index.json"

    def read(data: bytes) -> None:
        if (data or b"\0")[0] % 2:
            index.write_bytes(data[1:])
            for name in shards_of(index):
                assert (folder / name).parent == folder
            weight_files(index)
        else:
            (folder / "show-o" / "config.json").write_bytes(data[1:])
            load_published_folder(folder)

    return read


def _configurations() -> Iterator[bytes]:
    yield b" " + _json({"num_vq_tokens": 256, "llm_vocab_size": 50295, "codebook_size": 8192})
    yield b"!" + _json({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}})


def prepare_words(folder: Path) -> Read:
    """A list of words; what is accepted is asked about a text."""
    path = folder / "world.json"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        known = KnownWords.load(path)
        known.unknown("a red fox on two sandy beaches, behind an owl")
        known.with_articles("red fox on beach, owl left of it")
        path.write_bytes(_json(known.content()))
        assert KnownWords.load(path).content() == known.content()

    return read


def prepare_tokenizer(folder: Path) -> Read:
    """A `tokenizer.json`; what is accepted turns a text to ids and back."""
    path = folder / "text.json"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        tokenizer = TextTokenizer.load(path)
        tokens = tokenizer.encode("a fox <|endoftext|> on a beach")
        tokenizer.decode(tokens)

    return read


def _tokenizers() -> Iterator[bytes]:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    letters = pre_tokenizers.ByteLevel.alphabet()[:40]
    vocabulary = {letter: number for number, letter in enumerate(sorted(letters))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<|endoftext|>", special=True)])
    yield tokenizer.to_str().encode()


def prepare_text_prior(folder: Path) -> Read:
    """A text prior; what is accepted codes ids, and they come back."""
    path = folder / "prior"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        prior = load_text_prior(path)
        for ids in ([], [1, 2, 3], [prior.size - 1, 0, prior.size // 2]):
            row = np.array([each for each in ids if 0 <= each < prior.size], dtype=np.int32)
            coder, coded = encode_text(row, prior.size, prior)
            assert np.array_equal(decode_text(coded, coder, prior.size, prior), row)
            decode_prior(coded, prior)

    return read


def decode_prior(data: bytes, prior: TextPrior) -> None:
    """Read bytes by the prior, whether they were meant so or not."""
    from shared_protocol.errors import BadMessageError

    try:
        decode_text(data, TextCoder.PRIOR, prior.size, prior, 50)
    except BadMessageError:
        return


def _text_priors() -> Iterator[bytes]:
    small = toy_text_prior()
    base = small.base[:64]
    yield dump_text_prior(TextPrior(0, base))
    keys = np.array([1, 5], dtype=np.int64)
    table = type(small.tables[0])(
        1,
        keys,
        np.array([0, 2, 3]),
        np.array([2, 9, 7]),
        np.array([4, 5, 1 << 10]),
        np.array([200, 64]),
    )
    yield dump_text_prior(TextPrior(0, base, (table,)))
    yield dump_text_prior(small)


def prepare_mask_prior(folder: Path) -> Read:
    """A mask prior; what is accepted codes masks, and they come back."""
    path = folder / "prior"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        prior = load_mask_prior(path)
        flags = np.indices((9, 7)).sum(0) % 3 == 0
        assert np.array_equal(decode_mask(encode_mask(flags, prior), flags.shape, prior), flags)

    return read


def _mask_priors() -> Iterator[bytes]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "prior"
        save_mask_prior(toy_mask_prior(), path)
        yield path.read_bytes()


BRACKETS = (b"[" * 64, b'{"a":' * 32, b"\x91" * 64)
TARGETS = (
    Target(
        "manifest",
        prepare_manifest,
        _manifests,
        (f"{BUNDLES}.manifest",),
        ERRORS,
        words=(b"1e999", b"NaN", b"-1", b"true", b"null", b"18446744073709551616", *BRACKETS),
    ),
    Target(
        "configurations",
        prepare_configurations,
        _configurations,
        (f"{BUNDLES}.weight_files", f"{BUNDLES}.published"),
        ERRORS,
        600,
        words=(b"1e999", b"NaN", b"-1", b"../", b"\\u0000", *BRACKETS),
    ),
    Target(
        "known_words",
        prepare_words,
        lambda: [_json({"words": ["fox", "beach"], "phrases": {"owl": "an owl"}})],
        ("shared_protocol.words.known",),
        ERRORS,
        600,
        words=BRACKETS,
    ),
    Target(
        "text_tokenizer",
        prepare_tokenizer,
        _tokenizers,
        ("shared_protocol.tokenizers.text",),
        (*ERRORS,),
        3000,
        words=(b'"WordPiece"', b'"Unigram"', b'"WordLevel"', b'"Sequence"', b'"Regex"', *BRACKETS),
    ),
    Target(
        "text_prior",
        prepare_text_prior,
        _text_priors,
        ("shared_protocol.coding.text_codec",),
        ERRORS,
        20_000,
        words=(b"\xcf" + b"\xff" * 8, b"\xd3" + b"\x80" + b"\0" * 7),
    ),
    Target(
        "mask_prior",
        prepare_mask_prior,
        _mask_priors,
        ("shared_protocol.coding.mask_codec",),
        ERRORS,
        9000,
        words=(b"\xcf" + b"\xff" * 8, b"\xdd\xff\xff\xff\xff"),
    ),
)
