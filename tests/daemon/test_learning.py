"""The words by which one error message is like another, and a daemon that has no index of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobkeep_protocol.errors import InvalidRequest
from jobkeep_protocol.states import CheckpointState
from jobkeepd.backend import SQLiteStateBackend
from jobkeepd.store.learning import MAX_WORDS, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("No answer, no reply: NO!", ["no", "answer", "reply"]),
        ("/srv/app_2/part-9.csv:31", ["srv", "app", "part", "csv"]),
        ("pid 4711 at 0x7f3a, after 2.5 s", ["pid", "at", "after", "s"]),
        ("E42: 0x7f", ["e42", "0x7f"]),
        ("de\u0301ja\u0300 vu", ["déjà", "vu"]),
        ("内部エラー", ["内部エラー"]),
    ],
)
def test_words_are_those_that_another_message_of_the_kind_has_too(
    text: str, words: list[str]
) -> None:
    assert words_of(text) == words


def test_of_a_long_text_the_first_words_are_taken() -> None:
    words = [f"{one}{other}" for one in "abcdefgh" for other in "ijklmnop"]
    assert words_of(" ".join(words) + " x" * 10_000_000) == words[:MAX_WORDS]


async def test_without_the_index_a_text_is_refused_and_the_rest_is_answered(
    tmp_path: Path,
) -> None:
    state = CheckpointState(job_id="job", total_sheets=1)
    state.mark_sheet_failed(1, "no answer", "timeout")
    async with SQLiteStateBackend(tmp_path / "state.db", search=False) as backend:
        await backend.save(state)

        with pytest.raises(InvalidRequest, match=r"search is off .* ask by error_category, .* on$"):
            await backend.find_similar_outcomes(text="no answer")

        (found,) = await backend.find_similar_outcomes("timeout")
    assert found.error_message == "no answer"
