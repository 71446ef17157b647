"""The JSON dialect: Varlink, one call after the other, with or without `more` and `oneway`.

What lives here: calls into requests and replies into answers, and going from page to page for a
call that asks for more. What may not: the connection (that is `session`), and what a message looks
like (that is the protocol's `varlink`).

Replies come in the order of the calls (https://varlink.org/Method-Call), so there is one request at
a time. A call with `more` is one request after another, each for what follows the last reply; the
next one begins when the peer has taken what came before.
"""

from __future__ import annotations

from jobkeep_protocol import messages
from jobkeep_protocol.codec import decode_reply, open_envelope
from jobkeep_protocol.errors import JobkeepError
from jobkeep_protocol.json_text import Message, MessageReader
from jobkeep_protocol.request import Stream
from jobkeep_protocol.varlink import (
    Call,
    decode_call,
    encode_error,
    encode_reply,
    own_reply,
    to_request,
)
from jobkeepd.dialects import Client, Line
from jobkeepd.exchange import Exchange
from jobkeepd.limits import Limits, RequestLimits


class VarlinkDialect:
    """One conversation in JSON."""

    name: messages.Dialect = "json"
    client = Client()
    max_in_flight = 1

    def __init__(self, line: Line, limits: Limits) -> None:
        self._line = line
        self._checks = RequestLimits(limits).checks
        self.stream = MessageReader(limit=limits.max_frame_bytes)
        self._call = Call("")
        self._end = b"\n"
        """What ended the call, and ends its replies."""
        self._following: Exchange | None = None
        self._is_ending = False

    @property
    def has_more(self) -> bool:
        return self._following is not None

    def receive(self, message: Message) -> None:
        self._call, self._end = Call(""), message.end
        self._call = call = decode_call(message.body)
        try:
            if (reply := own_reply(call)) is not None:
                self._send(reply)
                return
            request, size = to_request(call)
            for check in self._checks:
                check(request)
        except JobkeepError as error:
            self._line.refused(error)
            self._send(encode_error(error))
            return
        self._line.begin(Exchange(self._line, 0, request, size, len(message.body) + 1))

    def end(self) -> Message | None:
        return self.stream.end()

    def answer(self, exchange: Exchange, body: bytes) -> int:
        request = exchange.request
        _, message = open_envelope(body)
        try:
            reply = decode_reply(type(request), message)
        except JobkeepError as error:
            return self._send(encode_error(error))
        following = request.following(reply) if self._call.more and not self._is_ending else None
        if following is None:
            return self._send(encode_reply(type(request), reply))
        self._following = Exchange(self._line, 0, following, exchange.size, 0)
        if isinstance(request, Stream) and request.is_empty(reply):
            return 0
        return self._send(encode_reply(type(request), reply, continues=True))

    def go_on(self) -> None:
        following, self._following = self._following, None
        if following is not None:
            self._line.begin(following)

    def refuse(self, error: JobkeepError) -> None:
        self._send(encode_error(error))

    def end_streams(self) -> None:
        self._is_ending = True

    def _send(self, answer: bytes) -> int:
        """Unless the call wants no answer; gives how many bytes went out."""
        if self._call.oneway:
            return 0
        self._line.send(answer + self._end)
        return len(answer) + 1
