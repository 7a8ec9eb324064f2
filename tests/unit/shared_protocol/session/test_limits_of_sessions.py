"""What no conversation may hold: at the last value that is taken and the first that is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from toy_bundle import LABELS, ToyBundle, half_mask, image, text

from shared_protocol.coding.labels_codec import MAX_NAME_BYTES
from shared_protocol.errors import (
    BadMessageError,
    InvalidInputError,
    LimitError,
    TrailingBytesError,
    TruncatedError,
    UnsupportedVersionError,
)
from shared_protocol.labels import LEVELS, MAX_LABELS, LabelWish, Ranking
from shared_protocol.messages import Options, Request
from shared_protocol.session.fields import (
    candidates_of,
    check_request,
    code_extension,
    code_grid,
    code_labels,
    code_options,
    code_reference,
)
from shared_protocol.session.hello import (
    MAX_KEY_BYTES,
    Hello,
    Status,
    Welcome,
    decode_hello,
    decode_welcome,
    encode_hello,
    encode_welcome,
)
from shared_protocol.session.ledger import Ledger, _shares
from shared_protocol.session.port import Reader, Writer, code_number, code_words
from shared_protocol.session.state import (
    MAX_PICTURES,
    MAX_TURN,
    KnownPicture,
    Reference,
    SessionState,
    option_values,
    readable,
    windowed,
)
from shared_protocol.tasks import Direction, Extension, Part, Scenario, Task
from shared_protocol.tokens import MAX_GRID, ImageTokens, KnownTokens, TextTokens

BUNDLE = ToyBundle()
SESSION, PRINT = b"sessions", b"four"


def picture(height: int = 2, width: int = 2, first: int = 0) -> KnownPicture:
    codes = first + np.arange(height * width, dtype=np.int32).reshape(height, width)
    return KnownPicture(KnownTokens(codes, np.ones((height, width), bool)))


# ---- state ---------------------------------------------------------------------------------------


def test_a_state_has_eight_bytes_32_bits_and_32_pictures() -> None:
    usual = SessionState(SESSION)
    assert (usual.turn, usual.pictures, usual.options) == (0, (), Options())
    SessionState(SESSION, MAX_TURN, (picture(),) * MAX_PICTURES)
    for session in (b"", SESSION[:7], SESSION + b"x"):
        with pytest.raises(InvalidInputError, match=f"a session id has {len(session)} bytes, not"):
            SessionState(session)
    for turn in (-1, MAX_TURN + 1):
        with pytest.raises(InvalidInputError, match=rf"turn {turn} is outside 0\.\.4294967295"):
            SessionState(SESSION, turn)
    with pytest.raises(InvalidInputError, match="33 pictures, at most 32 fit"):
        SessionState(SESSION, 0, (picture(),) * 33)


def test_a_digest_hangs_on_all_of_a_state() -> None:
    base = SessionState(SESSION, 3, (picture(), picture(3, 1)), Options(steps=4))
    states = [
        base,
        SessionState(b"sessionz", 3, base.pictures, base.options),
        replace(base, turn=4),
        replace(base, pictures=base.pictures[::-1]),
        replace(base, pictures=base.pictures[:1]),
        *(replace(base, options=o) for o in (Options(), Options(steps=5), Options(top=7))),
    ]
    assert len({state.digest for state in states}) == len(states)
    again = base.restart(9, [base.pictures[0]])
    assert again == SessionState(SESSION, 9, base.pictures[:1])
    assert base.restart(9).pictures == ()
    assert picture().name == picture().digest[:8]
    assert picture(1, 4).digest != picture(4, 1).digest


def test_options_are_numbers_by_position() -> None:
    assert option_values(Options()) == {2: 0}
    tuned = Options(steps=12, guidance=2.5, seed=7, max_new_tokens=9, mend=1, top=3)
    values = option_values(tuned)
    assert {k: v for k, v in values.items() if k != 1} == {0: 12, 2: 7, 3: 9, 4: 1, 5: 3}
    assert values[1] > 0


@pytest.mark.parametrize(
    ("task", "grid", "found"),
    [
        (Task.VQA, (16, 16), False),
        (Task.VQA, (16, 17), True),
        (Task.VQA, (17, 16), True),
        (Task.VQA, (15, 40), False),
        (Task.VQA, (40, 15), False),
        (Task.INPAINT, (20, 20), False),
    ],
)
def test_questions_are_about_windows_of_larger_pictures(
    task: Task, grid: tuple[int, int], found: bool
) -> None:
    assert windowed(task, grid, (16, 16)) is found


def test_the_last_window_of_a_picture_is_found() -> None:
    large = image(18, 19)
    state = SessionState(SESSION, 0, (KnownPicture(KnownTokens(large.codes, large.codes >= 0)),))
    window = ImageTokens(large.codes[2:, 3:], large.codebook_size)
    asked = Request(Task.VQA, text(5), window)
    assert state.find(asked, (16, 16)) == Reference(0, 2, 3)
    first = ImageTokens(large.codes[:16, :16], large.codebook_size)
    assert state.find(Request(Task.VQA, text(5), first), (16, 16)) == Reference(0)
    assert state.find(Request(Task.T2I, text(5)), (16, 16)) is None
    assert state.find(Request(Task.VQA, text(5), image(9, 20)), (16, 16)) is None
    known = state.known(Reference(0, 2, 3), (16, 16))
    assert np.array_equal(known.codes, window.codes)


def test_of_two_pictures_the_one_that_saves_more_is_named_and_of_equals_the_latest() -> None:
    whole = image()
    half = np.zeros((16, 16), bool)
    half[:8] = True

    def known(flags: Any) -> KnownPicture:
        return KnownPicture(KnownTokens(whole.codes, flags))

    asked = Request(Task.VQA, text(5), whole)
    for pictures, index in (
        ((known(~half & False),), None),
        ((known(half), known(half | True)), 1),
        ((known(half | True), known(half)), 0),
        ((known(half), known(~half)), 1),
    ):
        found = SessionState(SESSION, 0, pictures).find(asked, (16, 16))
        assert (None if found is None else found.index) == index


def test_a_receiver_needs_what_is_not_masked_or_dropped() -> None:
    asked = Request(Task.INPAINT, text(5), image(), half_mask())
    assert np.array_equal(readable(asked), ~half_mask().flags)
    assert readable(Request(Task.VQA, text(5), image())).all()


# ---- fields --------------------------------------------------------------------------------------


def test_a_label_without_a_name_is_refused() -> None:
    def label(name: str) -> bytes:
        port = Writer()
        for _ in range(32):
            port.uniform(256, 1)
        port.uniform(MAX_LABELS, 0)
        port.uniform(1, 0)
        port.uniform(LEVELS, 5)
        code_words(port, MAX_NAME_BYTES, name)
        return port.finish()

    wish = LabelWish(1, names=True)
    assert code_labels(Reader(label("fox")), wish, None).names == ("fox",)
    with pytest.raises(BadMessageError, match="the name of a label is empty"):
        code_labels(Reader(label("")), wish, None)


@pytest.mark.parametrize("most", [1, 3])
def test_labels_come_back_with_their_names_or_without(most: int) -> None:
    numbers, levels = (7, 0, 999)[:most], (63, 63, 0)[:most]
    names = tuple(f"thing {number}" for number in numbers)
    for wish, said in (
        (LabelWish(most, held=LABELS), ()),
        (LabelWish(most, names=True), names),
    ):
        port = Writer()
        code_labels(port, wish, Ranking(LABELS, numbers, levels, names))
        found = code_labels(Reader(port.finish()), wish, None)
        assert (found.numbers, found.levels, found.names) == (numbers, levels, said)
        assert found.of == LABELS


def test_a_request_of_another_bundle_is_refused() -> None:
    small = ImageTokens(np.zeros((16, 16), np.int32), 64)
    other = TextTokens(np.zeros(1, np.int32), 77)
    check_request(Request(Task.T2I, text(*[5] * 64)), BUNDLE)
    for wrong, said in (
        (Request(Task.VQA, text(5), small), "the image codes are of 64, the bundle's of 8192"),
        (Request(Task.T2I, other), "the text ids are of 77, the bundle's of 4096"),
        (Request(Task.T2I, text(5), negative=other), "the text ids are of 77, the bundle's of"),
        (Request(Task.T2I, text(*[5] * 65)), "the text has 65 tokens"),
        (Request(Task.T2I, text(5), negative=text(*[5] * 65)), "the text has 65 tokens"),
    ):
        with pytest.raises(InvalidInputError, match=said) as caught:
            check_request(wrong, BUNDLE)
        if "65" in said:
            assert caught.value.remedy == "use at most 64"


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_every_reference_comes_back(count: int) -> None:
    for reference in [None, *range(count)]:
        port = Writer()
        code_reference(port, count, reference, writing=True)
        assert code_reference(Reader(port.finish()), count, None, writing=False) == reference
    port = Writer()
    port.symbol((28, 2, 2), 1)
    if count == 1:
        with pytest.raises(BadMessageError, match="names an older picture, but there is one only"):
            code_reference(Reader(port.finish()), count, None, writing=False)


@pytest.mark.parametrize("grid", [(16, 16), (1, 1), (MAX_GRID, 1), (1, MAX_GRID), (16, 17)])
def test_every_grid_comes_back(grid: tuple[int, int]) -> None:
    port = Writer()
    code_grid(port, (16, 16), grid)
    assert code_grid(Reader(port.finish()), (16, 16), None) == grid


@pytest.mark.parametrize(
    "options",
    [
        Options(),
        Options(steps=1, guidance=0.0, seed=1, max_new_tokens=1),
        Options(steps=100, guidance=25.0, seed=2**32 - 1, max_new_tokens=512, mend=1),
        Options(reply=Scenario.UNIFORM),
        Options(steps=3, reply=max(Scenario)),
    ],
)
def test_every_option_comes_back_whatever_was_before(options: Options) -> None:
    for before in (Options(), Options(steps=3), options):
        port = Writer()
        code_options(port, before, options)
        found = code_options(Reader(port.finish()), before, None)
        assert found == replace(options, seed=options.seed or 0)


@pytest.mark.parametrize("sides", [(8, 0, 0, 0), (0, 0, 0, 1), (1, 2, 3, 4), (48, 0, 0, 48)])
def test_every_extension_comes_back_and_half_a_grid_is_cheap(sides: tuple[int, ...]) -> None:
    port = Writer()
    code_extension(port, (16, 16), (16, 16), Extension(*sides))
    if sides == (8, 0, 0, 0):
        assert port.bits < 6
    found = code_extension(Reader(port.finish()), (16, 16), (16, 16), None)
    assert found == Extension(*sides)


def test_a_sender_tries_what_is_wanted_all_or_the_first() -> None:
    allowed = (Scenario.TEXT_CONDITIONED, Scenario.MASKED, Scenario.GENERIC)
    ready = [Scenario.MASKED, Scenario.GENERIC]
    assert candidates_of(BUNDLE, allowed, None, search=True) == ready
    assert candidates_of(BUNDLE, allowed, None, search=False) == ready[:1]
    assert candidates_of(BUNDLE, allowed, Scenario.GENERIC, search=True) == [Scenario.GENERIC]
    assert candidates_of(BUNDLE, allowed, Scenario.UNIFORM, search=True) == []


@pytest.mark.parametrize("bits", [1, 16, 17, 32, 33])
def test_numbers_of_any_width_come_back(bits: int) -> None:
    for value in (0, 1, (1 << bits) - 1, (1 << bits) // 3):
        port = Writer()
        code_number(port, bits, value)
        assert port.bits == pytest.approx(bits)
        assert code_number(Reader(port.finish()), bits, None) == value


# ---- hello ---------------------------------------------------------------------------------------


def test_a_hello_holds_so_much_and_no_more() -> None:
    names = tuple(bytes([number] * 8) for number in range(33))
    full = Hello(PRINT, SESSION, MAX_TURN, 15, True, "k" * MAX_KEY_BYTES, names[:32])
    assert decode_hello(encode_hello(full)) == full
    assert decode_hello(encode_hello(Hello(PRINT, SESSION))) == Hello(
        PRINT, SESSION, 0, 0, False, "", ()
    )
    assert decode_hello(encode_hello(replace(full, progress=16))).progress == 15
    with pytest.raises(LimitError, match="a hello offers 33 pictures, at most 32 fit"):
        decode_hello(encode_hello(replace(full, offers=names)))
    with pytest.raises(LimitError):
        decode_hello(encode_hello(replace(full, key="k" * (MAX_KEY_BYTES + 1))))
    with pytest.raises(LimitError):
        decode_hello(encode_hello(replace(full, turn=MAX_TURN + 1)))
    with pytest.raises(BadMessageError, match="a hello offers a picture twice"):
        decode_hello(encode_hello(replace(full, offers=names[:1] * 2)))
    with pytest.raises(BadMessageError, match="the key in a hello is not ASCII"):
        decode_hello(encode_hello(replace(full, key="é")))


def test_a_hello_that_is_cut_or_of_another_kind_says_so() -> None:
    data = encode_hello(Hello(PRINT, SESSION, key="key", offers=(SESSION,)))
    with pytest.raises(TruncatedError, match="a hello is empty"):
        decode_hello(b"")
    with pytest.raises(TruncatedError, match="a hello of 14 bytes ends too early"):
        decode_hello(data[:14])
    for end in (16, 18, 20, 25):
        with pytest.raises(TruncatedError, match=f"a hello of {end} bytes ends inside a field"):
            decode_hello(data[:end])
    for flag in (0x40, 0x80):
        with pytest.raises(BadMessageError, match="reserved bits are set"):
            decode_hello(data[:14] + bytes([flag]))
    with pytest.raises(UnsupportedVersionError, match="session version 99 is not") as caught:
        decode_hello(b"\x63" + data[1:])
    assert caught.value.remedy.startswith("this end speaks ")


@pytest.mark.parametrize("offered", [0, 1, 7, 8, 9, 32])
def test_a_welcome_knows_what_was_offered_and_nothing_else(offered: int) -> None:
    for known in ((True,) * offered, (False,) * offered):
        data = encode_welcome(Welcome(known=known))
        assert len(data) == 1 + (offered + 7) // 8
        assert decode_welcome(data, offered) == Welcome(Status.OPEN, known)
        with pytest.raises(TrailingBytesError, match="1 bytes follow the answer to a hello"):
            decode_welcome(data + b"\0", offered)
    if offered:
        with pytest.raises(
            TruncatedError, match=f"a hello has {len(data) - 1} bytes, not {len(data)}"
        ):
            decode_welcome(data[:-1], offered)
    if offered % 8:
        with pytest.raises(BadMessageError, match="knows pictures that were not offered"):
            decode_welcome(encode_welcome(Welcome(known=(True,) * (offered + 1))), offered)
    for data in (b"", b"\x04", b"\xff"):
        with pytest.raises(BadMessageError, match="none of this version"):
            decode_welcome(data, offered)


# ---- ledger --------------------------------------------------------------------------------------


def test_bytes_by_part_are_whole_and_sum_to_the_frame() -> None:
    for size in range(12):
        for bits in ({}, {Part.TEXT: 9.0}, {Part.TEXT: 20.0, Part.IMAGE: 30.5}):
            shares = _shares(bits, 3.0, size)
            assert sum(shares.values()) == size
            assert all(isinstance(share, int) for share in shares.values())
    shares = _shares({Part.TEXT: 20.0, Part.IMAGE: 33.0}, 8.0, 10)
    assert shares == {"text": 3, "image": 4, "parameters": 1, "container": 2}


def test_what_is_coded_in_a_block_counts_towards_its_part() -> None:
    ledger = Ledger(Writer())
    for _ in range(2):
        with ledger.part(Part.TEXT):
            ledger.port.uniform(256, 1)
        ledger.port.uniform(256, 1)
    assert ledger.bits[Part.TEXT] == pytest.approx(16)
    ledger.counts = {Part.MASK: 9, Part.DROPPED: 17, Part.IMAGE: 3, Part.TEXT: 2}
    found = ledger.anatomy(Task.T2I, Direction.UPLINK, 4, BUNDLE, 0.0)
    uniform = found.uniform
    assert (uniform.mask, uniform.dropped, uniform.image, uniform.text) == (2, 3, 5, 0)
    assert found.fingerprint_prefix == BUNDLE.fingerprint[:2]
    assert found.sizes.total == 4
