"""An installation by a child process: what others can see of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.config import ModelsConfig
from agent.errors import AgentError
from agent.installing import Installer, Source, _result

if TYPE_CHECKING:
    from pathlib import Path


def test_a_login_in_the_url_is_not_in_the_list_of_processes(tmp_path: Path) -> None:
    """All users of the device can read command lines; the child has the URL all the same, and tells no secret."""
    source = Source("http://me:s3cret@127.0.0.1:1/model.zip", "0" * 64)
    told = r"no model from http://\*\*\*@127.0.0.1:1/model.zip"
    with (
        Installer(tmp_path, ModelsConfig())._started(source) as child,
        pytest.raises(AgentError, match=told) as refused,
    ):
        _result(child, lambda _: None)
    assert "install" in str(child.args)
    assert "s3cret" not in str(child.args)
    assert "s3cret" not in str(refused.value)
