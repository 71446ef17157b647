"""What people type, as a query of FTS5."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobkeep_protocol.errors import InvalidRequest
from jobkeepd.store.query_words import MAX_CHARACTERS, parse
from jobkeepd.store.search_tables import TOKENIZER

TYPED = st.lists(
    st.one_of(
        st.text(),
        st.sampled_from(
            ["OR", "AND", "NOT", "NEAR(a b)", '"', '"a b"', "a*", "-a", "(", "{x y}:", "^a", "\0"]
        ),
    )
).map(" ".join)


@pytest.fixture(scope="module")
def index() -> Iterator[sqlite3.Connection]:
    """An index with one text in each column."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(
            f"CREATE VIRTUAL TABLE texts USING fts5(prompt, output, tokenize='{TOKENIZER}')"
        )
        connection.execute("INSERT INTO texts VALUES ('a b', 'c')")
        yield connection


@pytest.mark.parametrize(
    ("typed", "match"),
    [
        ("one two", '("one") AND ("two")'),
        ('"one  two"', '("one  two")'),
        ("one* two", '("one*" *) AND ("two")'),
        ('"one two"*', '("one two" *)'),
        ("one -two", '(("one")) NOT ("-two")'),
        ('one -"two three" -four', '(("one")) NOT ("two three" OR "-four")'),
        ("one OR two three", '("one" OR "two") AND ("three")'),
        ("one OR two OR three", '("one" OR "two" OR "three")'),
        ("OR one", '("OR") AND ("one")'),
        ("one OR", '("one") AND ("OR")'),
        ("one or two", '("one") AND ("or") AND ("two")'),
        ("one OR -two", '(("one") AND ("OR")) NOT ("-two")'),
        ("a/b.py:5", '("a/b.py:5")'),
        ("prompt: x", '("prompt:") AND ("x")'),
        ('say "it', '("say") AND (" it")'),
        ("--flag - * one", '("--flag") AND ("one")'),
    ],
)
def test_query_is_what_was_meant(typed: str, match: str) -> None:
    assert parse(typed).match == match


def test_longest_word_is_what_a_text_is_shown_around() -> None:
    assert parse("of reads.py -left").words == ["reads", "of", "py"]


def test_query_that_is_too_long_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=f"at most {MAX_CHARACTERS}"):
        parse("a" * (MAX_CHARACTERS + 1))


@given(TYPED)
@example("a\0b")
@example("a\ud800b")
@example("a " * (MAX_CHARACTERS // 2))
@example("a OR " * (MAX_CHARACTERS // 5) + "a")
@example("a " + "-b " * (MAX_CHARACTERS // 3 - 1))
def test_any_text_is_a_query_or_is_refused(index: sqlite3.Connection, typed: str) -> None:
    with suppress(InvalidRequest):
        query = parse(typed[:MAX_CHARACTERS])
        index.execute(
            "SELECT bm25(texts) FROM texts WHERE texts MATCH ?", (query.match,)
        ).fetchall()


@given(st.text(st.characters(categories=["L", "N"]), min_size=1))
def test_word_finds_the_text_that_it_is(typed: str) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"CREATE VIRTUAL TABLE texts USING fts5(t, tokenize='{TOKENIZER}')")
        connection.execute("INSERT INTO texts VALUES (?)", (f"before {typed} after",))
        (terms,) = connection.execute(
            "SELECT count(*) FROM texts WHERE texts MATCH ?", (parse(typed).match,)
        ).fetchone()
    assert terms == 1 or not typed.isascii()  # of scripts younger than FTS5 it knows no letter
