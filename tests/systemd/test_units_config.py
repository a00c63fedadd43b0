"""What a unit is told, at its start and by a reload, on a real systemd host."""

from __future__ import annotations

import nspawn
import pytest
from nspawn import Host, eventually
from worker_host import UNIT, drop_in

pytestmark = pytest.mark.timeout(900)  # the first one boots the host and installs everything


def test_a_wrong_configuration_fails_once(host: Host) -> None:
    drop_in(host, UNIT, "[Service]\nEnvironment=SHITHUBD_WORKER_GRACE=soon\n")
    with pytest.raises(nspawn.NspawnError):
        host.run("systemctl", "start", UNIT)
    shown = host.show(UNIT, "ActiveState", "ExecMainStatus", "NRestarts")
    assert shown == {"ActiveState": "failed", "ExecMainStatus": "78", "NRestarts": "0"}
    eventually("the journal says why", lambda: "SHITHUBD_WORKER_GRACE" in host.journal(UNIT))
