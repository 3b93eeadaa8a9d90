"""The controller's side of a fleet: releases to install from, and a view of all devices."""
