"""Requests over http(s): redirects bounded and never away from https, each fault in one line."""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request
from base64 import b64encode
from datetime import datetime, timezone
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

from agent.errors import AgentError, InputMissing, NotPermitted, ServiceAway, UsageError
from agent.urls import redact

if TYPE_CHECKING:
    import http.client

_REDIRECTS = 5
_NOT_VALID_IN_TIME = (9, 10)
"""X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED of OpenSSL."""


def is_url(source: str) -> bool:
    """Tell whether `source` is to be downloaded."""
    return source.lower().startswith(("http://", "https://"))


def request_for(url: str, done: int, etag: str) -> urllib.request.Request:
    """Return the request for the bytes from `done` on; a login in the URL goes to its own host alone."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        if not parts.hostname:
            raise ValueError("no host")
        request = urllib.request.Request(urlunsplit(parts._replace(netloc=host, fragment="")))  # noqa: S310 - is_url
    except ValueError as error:
        raise UsageError("the URL of the model", seen=redact(url), fix=str(error)) from None
    request.add_header("User-Agent", "edge-agent")
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        request.add_unredirected_header("Authorization", f"Basic {b64encode(login.encode()).decode()}")
    if done:
        request.add_header("Range", f"bytes={done}-")
        if etag:
            request.add_header("If-Range", etag)
    return request


class _Redirects(urllib.request.HTTPRedirectHandler):
    max_redirections = _REDIRECTS

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        if not is_url(newurl) or (req.type == "https" and not newurl.lower().startswith("https://")):
            raise _Downgrade(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Downgrade(Exception):
    """A server led from https to something else."""


def open_url(request: urllib.request.Request, silence_s: float) -> http.client.HTTPResponse:
    """Return the answer, redirects followed. Raises URLError, all that http.client does, ServiceAway."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=ssl.create_default_context()),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    try:
        answer: http.client.HTTPResponse = opener.open(request, timeout=silence_s)
    except _Downgrade as error:
        fix = "give the address that it leads to, if you trust it"
        raise ServiceAway("the server leads away from https", seen=redact(str(error)), fix=fix) from None
    return answer


def refusal(url: str, error: urllib.error.HTTPError) -> AgentError:
    """Return what to tell of an answer that is no file."""
    what, seen = f"no model from {redact(url)}", f"HTTP {error.code}"
    error.close()
    if error.code in (404, 410):
        return InputMissing(what, seen=seen, fix="check the address")
    if error.code in (401, 403, 407):
        return NotPermitted(what, seen=seen, fix="put the login into the URL: https://user:password@host/...")
    fix = "it leads in circles: check the address" if 300 <= error.code < 400 else "try again later"
    return ServiceAway(what, seen=seen, fix=fix)


def no_connection(url: str, reason: object) -> AgentError:
    """Return what to tell where there was no answer; `reason` is that of a URLError."""
    what = f"no model from {redact(url)}"
    if isinstance(reason, ssl.SSLCertVerificationError):
        if reason.verify_code in _NOT_VALID_IN_TIME:
            now = f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC"
            fix = f"the clock says {now}, is it set? If so, the server needs a new certificate"
            return ServiceAway(what, seen=reason.verify_message, fix=fix)
        fix = "trust its authority (SSL_CERT_FILE), or correct the host name"
        return ServiceAway(what, seen=reason.verify_message, fix=fix)
    seen = getattr(reason, "strerror", None) or str(reason)
    return ServiceAway(what, seen=seen, fix="check the address and that the server runs")
