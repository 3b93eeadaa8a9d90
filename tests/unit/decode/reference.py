"""Plain, slow twins of the decoders, written for reading."""

from __future__ import annotations


def iou(a, b):
    """Return intersection over union of two boxes x1, y1, x2, y2."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def greedy_nms(rows, threshold):
    """Return the (score, class, box) rows that stay, one pair at a time."""
    kept = []
    for row in sorted(rows, key=lambda row: -row[0]):
        if all(other[1] != row[1] or iou(other[2], row[2]) <= threshold for other in kept):
            kept.append(row)
    return kept


def rows_of(detections):
    """Return detections as (score, class, box) rows."""
    return [
        (float(score), int(kind), tuple(map(float, box)))
        for score, kind, box in zip(detections.score, detections.class_id, detections.xyxy, strict=True)
    ]


def same(detections, expected):
    """Say whether detections are the expected rows, in order, up to float32 rounding."""
    found = rows_of(detections)
    return len(found) == len(expected) and all(
        a[1] == b[1]
        and abs(a[0] - b[0]) < 1e-5
        and all(abs(x - y) < 1e-4 * (1 + abs(y)) for x, y in zip(a[2], b[2], strict=True))
        for a, b in zip(found, expected, strict=True)
    )
