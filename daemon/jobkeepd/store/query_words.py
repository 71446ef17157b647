"""What people type into a search, as a query of FTS5.

What lives here: the language of queries. What may not: SQL, and what is searched.

All words are required. `"these words"` are found beside each other, in this order; `word*` is any
word that begins so; `-word` must not be there; `this OR that` is one of both. Everything else is
text, in which all but letters and digits parts words: a path, or `key:value`, is found as its words
beside each other. So no text is a wrong query, but one without a word to look for is refused.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from unicodedata import category

from jobkeep_protocol.errors import InvalidRequest

MAX_CHARACTERS = 4096

_OR = "OR"
_ITEM = re.compile(r'(?P<minus>-?)"(?P<phrase>[^"]*)"(?P<star>\*?)|(?P<text>\S+)')
_NOT_TEXT = re.compile("[\0\ud800-\udfff]")
"""What would end a query, or cannot be said to SQLite."""


class Query(NamedTuple):
    """A query as FTS5 has it (https://www.sqlite.org/fts5.html#full_text_query_syntax), and the
    words that are looked for, the longest first."""

    match: str
    words: list[str]


class _Term(NamedTuple):
    text: str
    is_excluded: bool = False
    is_prefix: bool = False

    def __str__(self) -> str:
        return f'"{self.text}"{" *" if self.is_prefix else ""}'


def parse(text: str) -> Query:
    """The query that a text stands for. Raises InvalidRequest when there is nothing to look for."""
    if len(text) > MAX_CHARACTERS:
        raise InvalidRequest(
            f"query has {len(text)} characters; expected at most {MAX_CHARACTERS}",
            {"field": "query"},
        )
    terms = _terms(_NOT_TEXT.sub(" ", text))
    wanted = _alternatives([one for one in terms if not one.is_excluded])
    if not wanted:
        raise InvalidRequest(
            f"query is {text!r}; expected a word to look for: letters or digits, without a minus "
            "before them",
            {"field": "query"},
        )
    match = " AND ".join(f"({' OR '.join(map(str, group))})" for group in wanted)
    excluded = [str(one) for one in terms if one.is_excluded]
    if excluded:
        match = f"({match}) NOT ({' OR '.join(excluded)})"
    words = {word for group in wanted for term in group for word in words_of(term.text)}
    return Query(match, sorted(words, key=lambda word: (-len(word), word)))


def words_of(text: str) -> list[str]:
    """The runs of letters and digits in a text."""
    return "".join(one if _is_of_word(one) else " " for one in text).split()


def _terms(text: str) -> list[_Term]:
    """What is asked for, one after the other; what has no word is left out."""
    terms = []
    for item in _ITEM.finditer(text):
        if item["text"] is None:
            term = _Term(item["phrase"], bool(item["minus"]), bool(item["star"]))
        else:
            term = _term(item["text"])
        if words_of(term.text):
            terms.append(term)
    return terms


def _term(text: str) -> _Term:
    """A minus or a star that is not right beside a word is text."""
    is_excluded = text[0] == "-" and _is_of_word(text[1:2])
    is_prefix = text[-1] == "*" and _is_of_word(text[-2:-1])
    return _Term(text.replace('"', " "), is_excluded, is_prefix)


def _alternatives(terms: list[_Term]) -> list[list[_Term]]:
    """Groups of which one term each must be found. An OR that is not between two others is a
    word."""
    groups: list[list[_Term]] = []
    is_open = False
    for place, term in enumerate(terms):
        if is_open:
            groups[-1].append(term)
            is_open = False
        elif term.text == _OR and groups and place + 1 < len(terms):
            is_open = True
        else:
            groups.append([term])
    return groups


def _is_of_word(character: str) -> bool:
    """Whether the tokenizer of the index takes this for a part of a word."""
    return bool(character) and (category(character)[0] in "LN" or category(character) == "Co")
