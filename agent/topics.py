"""Topics of MQTT: the tree of one device, and which names can be a level of it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from agent.errors import BadConfig

NAME_BYTES = 64
_FORBIDDEN = re.compile(r"[/+#$\x00-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one device."""

    base: str

    @staticmethod
    def of(device: str, *, root: str = "edge") -> Topics:
        """Return the topics below `root`/`device`; `root` may have levels. Raises BadConfig."""
        levels = [check_name("topic root", level) for level in root.split("/")]
        return Topics("/".join([*levels, check_name("device name", device)]))

    @property
    def status(self) -> str:
        """Birth and last will, retained."""
        return f"{self.base}/status"

    @property
    def stats(self) -> str:
        """Numbers of the agent."""
        return f"{self.base}/stats"

    @property
    def health(self) -> str:
        """The verdict, retained."""
        return f"{self.base}/health"

    @property
    def gap(self) -> str:
        """Messages that will not come."""
        return f"{self.base}/gap"

    @property
    def command(self) -> str:
        """Where this device is told what to do."""
        return f"{self.base}/command"

    @property
    def command_result(self) -> str:
        """Answers to commands that name no response topic."""
        return f"{self.base}/command/result"

    @property
    def command_update(self) -> str:
        """Where Home Assistant asks for the model that is available."""
        return f"{self.base}/command/update"

    @property
    def model(self) -> str:
        """The model at work, and how far an update of it is, retained."""
        return f"{self.base}/model"

    @property
    def model_available(self) -> str:
        """The model that an operator offers to all devices of this root, retained."""
        return f"{self.root}/models/available"

    @property
    def root(self) -> str:
        """What the trees of all devices lie below."""
        return self.base.rpartition("/")[0]

    def camera_settings(self, camera: str) -> str:
        """Return the retained topic of how a camera is set: enabled or not, its sampling."""
        return f"{self.base}/camera/{check_name('camera name', camera)}"

    def events(self, camera: str) -> str:
        """Return the topic of a camera's events."""
        return f"{self.base}/events/{check_name('camera name', camera)}"

    def state(self, camera: str, label: str) -> str:
        """Return the retained topic of how many `label` a camera has; a label is made safe for a topic."""
        return f"{self.base}/state/{check_name('camera name', camera)}/{_FORBIDDEN.sub('_', label) or '_'}"


def check_name(what: str, name: str) -> str:
    """Return `name` if it can be one level of a topic, else raise BadConfig naming `what`."""
    size_bytes = len(name.encode(errors="surrogatepass"))
    if not name.strip() or size_bytes > NAME_BYTES or _FORBIDDEN.search(name):
        shown = repr(name if len(name) <= NAME_BYTES else name[:NAME_BYTES] + "...")
        raise BadConfig(
            what, seen=shown, fix=f"1 to {NAME_BYTES} bytes without / + # $ and control characters"
        )
    return name
