"""Who is who, without names: subject ids are hashed as (cohort, subject) with one secret salt per
project.

The salt (`.lcm-salt` beside the project's .git, or LCM_SALT_FILE) is made at the first shard and
never leaves that file: shards hold hashes and the salt's fingerprint, by which sets that cannot
recognise each other's people are told apart.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import re
import secrets
from pathlib import Path

from lcm_scale.errors import InputError

SALT_FILE = ".lcm-salt"
SALT_VARIABLE = "LCM_SALT_FILE"
HASH_DIGITS = 16
BIDS_PREFIX = "sub-"


def project_salt() -> bytes:
    """The project's salt, made where there is none yet.

    Raises: InputError where the file cannot be written or holds something else.
    """
    path = salt_path()
    if not path.exists():
        _create(path)
    try:
        salt = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: no readable salt ({type(error).__name__}); restore it from a backup"
        ) from error
    if len(salt) < 16:
        raise InputError(
            f"{path}: the salt is cut short; restore it from a backup, or people will not be "
            "recognised"
        )
    return salt


def salt_path() -> Path:
    """LCM_SALT_FILE, or `.lcm-salt` in the nearest folder upwards that has one or is a git
    checkout, or here."""
    if os.environ.get(SALT_VARIABLE):
        return Path(os.environ[SALT_VARIABLE]).expanduser()
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / SALT_FILE).exists() or (folder / ".git").exists():
            return folder / SALT_FILE
    return here / SALT_FILE


def _create(path: Path) -> None:
    """Readable by its owner only, there whole or not at all; of two processes at once, the first
    one's stays."""
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(
            os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii"
        ) as handle:
            handle.write(secrets.token_hex(32) + "\n")
            handle.flush()
            os.fsync(handle.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(aside, path)
    except OSError as error:
        raise InputError(
            f"{path}: the salt of the subject hashes cannot be written ({error.strerror}); set "
            f"{SALT_VARIABLE}"
        ) from error
    finally:
        if aside.exists():
            aside.unlink()


def normalised(subject: str) -> str:
    """One spelling a person: ``sub-0050003`` (BIDS), ``0050003``, ``50003`` and ``50003.0`` (a
    spreadsheet's) are the same."""
    bare = subject.strip()
    while bare.startswith(BIDS_PREFIX) and len(bare) > len(BIDS_PREFIX):
        bare = bare.removeprefix(BIDS_PREFIX).strip() or BIDS_PREFIX
    number = re.fullmatch(r"0*([0-9]+)(\.0+)?", bare)
    return number.group(1) if number else bare


def hash_subject(salt: bytes, cohort: str, subject: str) -> str:
    """16 hex digits that stand for a person in every shard set of the project."""
    return _hash(salt, cohort.strip().casefold(), normalised(subject))


def hash_scan(salt: bytes, cohort: str, subject: str, session: str, run: str, window: int) -> str:
    """16 hex digits that stand for one matrix of a person."""
    return _hash(salt, cohort.strip().casefold(), normalised(subject), session, run, str(window))


def hash_text(salt: bytes, text: str) -> str:
    """16 hex digits that stand for a text which nobody without the salt can look up."""
    return _hash(salt, text)


def salt_id(salt: bytes) -> str:
    """The salt's fingerprint: equal where two sets were hashed alike; the salt cannot be had from
    it."""
    return hashlib.sha256(b"lcm-scale salt fingerprint\0" + salt).hexdigest()[:HASH_DIGITS]


def _hash(salt: bytes, *parts: str) -> str:
    # Parts are told apart by their lengths, so that ("a", "bc") and ("ab", "c") differ.
    message = b"".join(len(part.encode()).to_bytes(4, "big") + part.encode() for part in parts)
    return hmac.new(salt, message, hashlib.sha256).hexdigest()[:HASH_DIGITS]
