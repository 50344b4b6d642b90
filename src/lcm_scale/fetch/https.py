"""Reading from the web: https alone, redirects included, and a few tries.

Whoever fetches takes an `Opener`, so that tests need no network: `open_https` is the real one.
"""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

from lcm_scale.errors import InputError
from lcm_scale.terminal import one_line

SECONDS = 60.0  # that an answer, or the next piece of it, may take
PAUSES = (1.0, 3.0)  # seconds before the second and the third try
BUSY = (408, 425, 429, 500, 502, 503, 504)  # answers that another try may change
PIECE = 2**20  # bytes that are read at once

Value = TypeVar("Value")


class Answer(Protocol):
    """What a server sends, piece by piece."""

    def read(self, size: int, /) -> bytes: ...


Opener = Callable[[str], AbstractContextManager[Answer]]


class Broken(Exception):
    """The transfer went wrong in a way that another try may mend; the message says how."""


def _https_only() -> urllib.request.OpenerDirector:
    """An opener that knows no other protocol, so that no redirect leads to one."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    return opener


def open_https(url: str) -> AbstractContextManager[Answer]:
    """The answer to a request, its body unread.

    Raises: InputError for an address that is not https; what urllib raises.
    """
    if not url.startswith("https://"):
        raise InputError(f"{url}: only https is fetched")
    request = urllib.request.Request(url, headers={"User-Agent": "lcm-scale"})
    answer: AbstractContextManager[Answer] = _https_only().open(request, timeout=SECONDS)
    return answer


def pieces(answer: Answer, most: int) -> bytes:
    """The next piece of an answer, b"" at its end.  Raises: Broken where it stops coming."""
    try:
        return answer.read(min(PIECE, most))
    except (OSError, http.client.HTTPException) as error:
        raise Broken(_said(error)) from error


def tried(what: str, act: Callable[[], Value]) -> Value:
    """The result of `act`, which may be called three times.

    Args: what: is fetched, for the message.
    Raises: InputError where no try succeeds, or the server refuses.
    """
    for pause in (*PAUSES, None):
        try:
            return act()
        except urllib.error.HTTPError as error:
            if error.code not in BUSY or pause is None:
                raise InputError(
                    f"{what}: the source answers {error.code} ({one_line(str(error.reason))[:80]})"
                ) from error
        except (OSError, http.client.HTTPException, Broken) as error:
            if pause is None:
                raise InputError(f"{what}: {_said(error)}; is there a network?") from error
        time.sleep(pause)
    raise AssertionError("the last try returns or raises")


def _said(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    words = getattr(reason, "strerror", None) or str(reason) or type(error).__name__
    return one_line(str(words))[:120]
