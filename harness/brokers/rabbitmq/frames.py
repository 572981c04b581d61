"""How are the two frames that a client sends all the time made cheaply? As bytes of which only numbers change.

AMQP 0-9-1: a publish is a method frame, a header frame and a body frame; an acknowledgement is one method frame. The
library builds each from objects, which costs a client more than all else it does.
"""

from __future__ import annotations

import struct

_FRAME_METHOD, _FRAME_HEADER, _FRAME_BODY, _FRAME_END = 1, 2, 3, 0xCE
_BASIC, _PUBLISH, _ACK = 60, 40, 80
_HAS_DELIVERY_MODE, _HAS_MESSAGE_ID = 1 << 12, 1 << 7
_TRANSIENT, _PERSISTENT = 1, 2
_TAG_DIGITS = 10

_HEADER = struct.Struct(">BHIHHQHB")  # type, channel, size; class, weight, body size, flags, delivery mode
_HEADER_TAGGED = struct.Struct(f">BHIHHQHBB{_TAG_DIGITS}sB")  # ... length and text of the message id, end
_FRAME = struct.Struct(">BHI")
_ACK_FRAME = struct.Struct(">BHIHHQBB")
_HEAD_SIZE, _TAGGED_SIZE = 2 + 2 + 8 + 2 + 1, 2 + 2 + 8 + 2 + 1 + 1 + _TAG_DIGITS
BODY_SIZE_MAX = 131_072 - 8
"""Of one body frame, by the frame size that RabbitMQ and the library agree on."""


class PublishFrames:
    """Frames of publishes on one channel to one routing key of the default exchange."""

    def __init__(self, channel: int, routing_key: str, *, persistent: bool, mandatory: bool) -> None:
        key = routing_key.encode()
        method = struct.pack(">HHHBB", _BASIC, _PUBLISH, 0, 0, len(key)) + key + bytes([int(mandatory)])
        self._method = _FRAME.pack(_FRAME_METHOD, channel, len(method)) + method + bytes([_FRAME_END])
        self._channel = channel
        self._mode = _PERSISTENT if persistent else _TRANSIENT
        self._tagged = mandatory

    def make(self, payload: bytes, tag: int) -> bytes:
        """All three frames. The tag goes with the message as its id where it may be returned."""
        size, channel = len(payload), self._channel
        if self._tagged:
            header = _HEADER_TAGGED.pack(
                _FRAME_HEADER,
                channel,
                _TAGGED_SIZE,
                _BASIC,
                0,
                size,
                _HAS_DELIVERY_MODE | _HAS_MESSAGE_ID,
                self._mode,
                _TAG_DIGITS,
                b"%010d" % tag,
                _FRAME_END,
            )
        else:
            header = _HEADER.pack(
                _FRAME_HEADER, channel, _HEAD_SIZE, _BASIC, 0, size, _HAS_DELIVERY_MODE, self._mode
            ) + bytes([_FRAME_END])
        return b"".join((self._method, header, _FRAME.pack(_FRAME_BODY, channel, size), payload, b"\xce"))


def ack_frame(channel: int, delivery_tag: int) -> bytes:
    """The frame that acknowledges one delivery."""
    return _ACK_FRAME.pack(_FRAME_METHOD, channel, 13, _BASIC, _ACK, delivery_tag, 0, _FRAME_END)
