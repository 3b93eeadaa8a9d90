"""Whether a device is as healthy as before: pure."""

_RANK = {"ok": 0, "degraded": 1, "stuck": 2}


def judge(status, before, limits):
    """Return what is wrong with a device of this `status`, one line each; none: it is healthy.

    `status` is what `edge-agent status --json` prints, `before` such a one from before the change or {}. `limits`:
    `version` and `model` (a bundle's sha) are to run ("": any); `verdict` is the worst that is good enough, where
    it was not worse before; fps may fall to the share `fps` of before, p95 of inference and age of frames may rise
    to `latency` times before and `latency_ms` more.
    """
    return [line for line in _complaints(status, before, limits) if line]


def _complaints(status, before, limits):
    yield _other("version", status.get("version"), limits["version"])
    yield _other("model", (status.get("model") or {}).get("bundle_sha"), limits["model"])
    worst = max((limits["verdict"], before.get("verdict", "ok")), key=lambda verdict: _RANK.get(verdict, 0))
    if _RANK.get(status.get("verdict"), 3) > _RANK[worst]:
        reasons = ", ".join(status.get("reasons") or ["no reason given"])
        yield f"verdict is {status.get('verdict')}: {reasons}; {worst} is the worst allowed"
    yield _fps(status.get("fps"), before.get("fps"), limits["fps"])
    for name, what in (("infer_ms", "inference"), ("age_ms", "age of frames")):
        now, then = (_p95(source.get(name)) for source in (status, before))
        yield _latency(what, now, then, limits)


def _other(what, seen, wanted):
    return f"{what} is {seen or 'none'}, not {wanted}" if wanted and seen != wanted else ""


def _fps(now, then, share):
    if not then or not share:
        return ""
    if now is None:
        return f"no fps yet, {then:.2f} before"
    return f"fps is {now:.2f}, {then:.2f} before" if now < share * then else ""


def _p95(figures):
    return (figures or {}).get("p95")


def _latency(what, now, then, limits):
    if then is None or not limits["latency"]:
        return ""
    if now is None:
        return f"no p95 of {what} yet, {then:.0f} ms before"
    most = limits["latency"] * then + limits["latency_ms"]
    return f"p95 of {what} is {now:.0f} ms, {then:.0f} before: over {most:.0f}" if now > most else ""
