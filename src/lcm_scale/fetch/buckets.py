"""What lies in a public bucket: the keys below a prefix with their sizes and sums.

The answers are those of Amazon S3's ListObjectsV2. The ETag of an object that was sent in one piece
and is not encrypted with a key of its owner's is its MD5; that of one sent in several pieces has a
dash in it, and is not.
"""

from __future__ import annotations

import re
import urllib.parse
from dataclasses import dataclass
from functools import partial
from xml.etree import ElementTree

from lcm_scale.errors import InputError
from lcm_scale.fetch.https import Opener, pieces, tried

LARGEST_PAGE = 2**23  # bytes of one answer, which holds at most 1,000 keys
MOST_PAGES = 500
MD5 = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Remote:
    """An object.

    Attributes: url: to fetch it from.   key: its name in the bucket.   size: bytes.
        md5: 32 hex digits, '' where the source gives none.
    """

    url: str
    key: str
    size: int
    md5: str


def listed(bucket: str, prefix: str, opener: Opener) -> list[Remote]:
    """Every object whose key begins with `prefix`, in the order of the keys.

    Args: bucket: its https address, without a slash at the end.
    Raises: InputError where the list cannot be had or read.
    """
    found: list[Remote] = []
    token = ""
    for _ in range(MOST_PAGES):
        query = {"list-type": "2", "prefix": prefix} | (
            {"continuation-token": token} if token else {}
        )
        url = f"{bucket}/?{urllib.parse.urlencode(query)}"
        where = f"the list of {bucket}/{prefix}"
        page = tried(where, partial(_page, url, opener))
        objects, token = _read(page, bucket, where)
        found += objects
        if not token:
            return found
    raise InputError(f"{where}: more than {MOST_PAGES:,} pages; it is not what it was")


def _page(url: str, opener: Opener) -> bytes:
    parts: list[bytes] = []
    size = 0
    with opener(url) as answer:
        while piece := pieces(answer, LARGEST_PAGE + 1 - size):
            parts.append(piece)
            size += len(piece)
            if size > LARGEST_PAGE:
                raise InputError(f"{url}: more than {LARGEST_PAGE:,} bytes of a list")
    return b"".join(parts)


def _read(page: bytes, bucket: str, where: str) -> tuple[list[Remote], str]:
    """A page's objects, and the token of the next one ('' where it is the last)."""
    try:
        root = ElementTree.fromstring(page)
        space = root.tag.removesuffix("ListBucketResult")
        objects = [_object(item, space, bucket) for item in root.iter(f"{space}Contents")]
        more = root.findtext(f"{space}IsTruncated") == "true"
        token = root.findtext(f"{space}NextContinuationToken") or ""
    except (ElementTree.ParseError, ValueError, KeyError) as error:
        raise InputError(f"{where}: cannot be read ({str(error)[:80]})") from error
    if root.tag != f"{space}ListBucketResult" or more != bool(token):
        raise InputError(f"{where}: is no list of a bucket")
    return objects, token


def _object(item: ElementTree.Element, space: str, bucket: str) -> Remote:
    """Raises: ValueError where it has no key, or no size."""
    key, size = item.findtext(f"{space}Key") or "", int(item.findtext(f"{space}Size") or "")
    if not key or size < 0:
        raise ValueError("an object without a key or size")
    tag = (item.findtext(f"{space}ETag") or "").strip('"')
    return Remote(
        url=f"{bucket}/{urllib.parse.quote(key)}",
        key=key,
        size=size,
        md5=tag if MD5.fullmatch(tag) else "",
    )
