"""A file fetched over http(s): of bounded size and time, gone on with where it was cut, known by its sha256."""

from __future__ import annotations

import contextlib
import http.client
import re
import ssl
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

from agent.bundle.files import digest_of
from agent.errors import BadData, ServiceAway, UsageError
from agent.modelstore.room import check_room
from agent.modelstore.web import no_connection, open_url, refusal, request_for
from agent.urls import redact

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import IO

    Tell = Callable[[int, int | None], None]

MOST_BYTES = 512 << 20
_SILENCE_S = 30.0
"""Longest wait for a connection, and for the next byte."""
_LONGEST_S = 6 * 3600.0
_TRIES = 5
"""Connections in a row that may break without a byte."""
_PAUSE_S = 1.0
_TELL_S = 0.5
_CHUNK_BYTES = 256 << 10
_SHA = re.compile(r"[0-9a-f]{64}")


class _Cut(Exception):
    """The connection ended before the file did."""


class Download:
    """One file with `sha256` on its way into `folder`, which is made; what came of it stays there over a cut.

    Raises UsageError for what is no sha256.
    """

    def __init__(
        self,
        folder: Path,
        sha256: str,
        most_bytes: int = MOST_BYTES,
        *,
        silence_s: float = _SILENCE_S,
        pause_s: float = _PAUSE_S,
    ) -> None:
        self._sha256 = sha256.lower()
        if not _SHA.fullmatch(self._sha256):
            raise UsageError("sha256", seen=repr(sha256[:80]), fix="give 64 hexadecimal digits")
        self._folder, self._most_bytes = folder, most_bytes
        self._silence_s, self._pause_s = silence_s, pause_s
        self.file, self._etag = folder / f"{self._sha256}.part", folder / f"{self._sha256}.etag"

    def fetch(self, url: str, tell: Tell) -> Path:
        """Return the file, fetched from `url` unless it is there; `tell` gets the bytes so far and of how many.

        Raises InputMissing, ServiceAway, NotPermitted, BadData (too large, or another file), CannotCreate, OSError.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        end_s = time.monotonic() + _LONGEST_S
        resumed = self._size() > 0
        if resumed and digest_of(self.file) == self._sha256:
            return self.file
        idle = 0
        while True:
            before = self._size()
            try:
                self._receive(url, tell, end_s)
            except _Cut as cut:
                idle = 0 if self._size() > before else idle + 1
                if idle >= _TRIES or time.monotonic() > end_s:
                    fix = "what came is kept: the same command goes on from there"
                    raise ServiceAway(
                        f"the download from {redact(url)} broke off", seen=cut, fix=fix
                    ) from None
                time.sleep(self._pause_s)
                continue
            if (digest := digest_of(self.file)) == self._sha256:
                return self.file
            self.forget()
            if not resumed:
                fix = f"it should be {self._sha256[:12]}...: another file, or changed on its way"
                raise BadData(f"{redact(url)}: wrong sha256", seen=f"{digest[:12]}...", fix=fix)
            resumed = False

    def forget(self) -> None:
        """Remove what was fetched."""
        for file in (self.file, self._etag):
            file.unlink(missing_ok=True)

    def _size(self) -> int:
        return self.file.stat().st_size if self.file.exists() else 0

    def _receive(self, url: str, tell: Tell, end_s: float) -> None:
        """Fetch the rest of the file in one connection. Raises _Cut, and as `fetch`."""
        done = self._size()
        try:
            with open_url(request_for(url, done, self._known_etag()), self._silence_s) as answer:
                done, whole = self._begin(answer, done)
                with self.file.open("r+b" if done else "wb") as file:
                    file.seek(done)
                    file.truncate()
                    self._copy(answer, file, done, whole, tell, end_s)
        except urllib.error.HTTPError as error:
            if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and done:
                self.forget()
                raise _Cut("the server has a shorter file now") from None
            raise refusal(url, error) from None
        except urllib.error.URLError as error:
            raise no_connection(url, error.reason) from None
        except (http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError) as error:
            raise _Cut(str(error) or type(error).__name__) from None

    def _begin(self, answer: http.client.HTTPResponse, done: int) -> tuple[int, int | None]:
        """Return from which byte `answer` goes on, and the size of the file if it is told. Raises BadData."""
        part = re.fullmatch(
            r"bytes (\d{1,15})-\d{1,15}/(\d{1,15}|\*)", answer.headers.get("Content-Range", "")
        )
        length = answer.headers.get("Content-Length", "")
        if answer.status == http.client.PARTIAL_CONTENT and part and int(part[1]) == done:
            whole = None if part[2] == "*" else int(part[2])
        elif answer.status == http.client.PARTIAL_CONTENT:
            self.forget()
            raise _Cut("the server sent another part than was asked for")
        else:
            done, whole = 0, int(length) if re.fullmatch(r"\d{1,15}", length) else None
        if whole is not None and whole > self._most_bytes:
            raise _too_large(whole, self._most_bytes)
        check_room(self._folder, (whole or 0) - done)
        etag = answer.headers.get("ETag", "")
        self._etag.write_text(etag if etag.startswith('"') else "", encoding="latin-1")
        return done, whole

    def _copy(
        self,
        answer: http.client.HTTPResponse,
        file: IO[bytes],
        done: int,
        whole: int | None,
        tell: Tell,
        end_s: float,
    ) -> None:
        told_s = 0.0
        while chunk := answer.read1(_CHUNK_BYTES):
            done += len(chunk)
            if done > self._most_bytes:
                raise _too_large(done, self._most_bytes)
            if whole is None:
                check_room(self._folder, len(chunk))
            file.write(chunk)
            now_s = time.monotonic()
            if now_s - told_s > _TELL_S:
                tell(done, whole)
                told_s = now_s
            if now_s > end_s:
                raise _Cut(f"it takes more than {_LONGEST_S / 3600:.0f} h")
        tell(done, whole)
        if whole is not None and done < whole:
            raise _Cut(f"{done} of {whole} bytes came")

    def _known_etag(self) -> str:
        """Return the strong ETag of what is there of the file, "" where there is none."""
        with contextlib.suppress(OSError, UnicodeError):
            return self._etag.read_text(encoding="latin-1")
        return ""


def _too_large(seen: int, most_bytes: int) -> BadData:
    return BadData("the download is too large", seen=f"{seen} bytes", fix=f"{most_bytes} at most")
