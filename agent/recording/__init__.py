"""Collects short clips of the cameras on the device: over hours, by day and by night, within a quota."""
