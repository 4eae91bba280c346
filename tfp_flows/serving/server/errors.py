"""What a server answers when it cannot do what was asked."""

from __future__ import annotations

import enum
import re

import tensorflow as tf

_ASSERTION = re.compile(r"assertion failed: \[(.*?)\]\s*(?:\n|$)", re.DOTALL)
# What TensorFlow puts around a message.
_SURROUNDINGS = ("Graph execution error", "Detected at node", "<stack traces", "[[")


class Code(enum.Enum):
    """Why, by gRPC's name and number and the HTTP status that stands for it."""

    INVALID_ARGUMENT = (3, 400)
    NOT_FOUND = (5, 404)
    TOO_LARGE = (3, 413)
    INTERNAL = (13, 500)
    UNAVAILABLE = (14, 503)

    @property
    def grpc_number(self) -> int:
        """Number of the gRPC status."""
        return self.value[0]

    @property
    def http_status(self) -> int:
        """HTTP status."""
        return self.value[1]


class RequestError(Exception):
    """A request that is refused, with a sentence for the client.

    Attributes:
        code: Why.
    """

    def __init__(self, sentence: str, code: Code = Code.INVALID_ARGUMENT) -> None:
        super().__init__(sentence)
        self.code = code


def from_tensorflow(error: tf.errors.OpError) -> RequestError:
    """Turns what a graph raised into an answer.

    A check in the graph puts its sentence between words of TensorFlow's own.
    """
    message = str(error.message)
    found = _ASSERTION.search(message)
    if found:
        return RequestError(found.group(1))
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(_SURROUNDINGS)]
    sentence = told[0] if told else type(error).__name__
    if isinstance(error, tf.errors.InvalidArgumentError):
        return RequestError(sentence)
    if isinstance(error, tf.errors.ResourceExhaustedError):
        return RequestError(sentence, Code.UNAVAILABLE)
    return RequestError(sentence, Code.INTERNAL)
