"""Lets Ansible reach a machine of machine-room.ts: into the namespaces of its first process."""

from __future__ import annotations

import os
import shlex
import subprocess

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.connection import ConnectionBase

DOCUMENTATION = """
name: machine
short_description: into the namespaces of a booted machine on this one
description: Runs nsenter by the number of the machine's first process.
options:
  init:
    description: That number, as this machine counts.
    type: int
    required: true
    vars:
      - name: machine_init
"""

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Connection(ConnectionBase):
    """See above."""

    transport = "machine"
    has_pipelining = True

    def _connect(self):
        self._connected = True
        return self

    def _run(self, words, **how):
        init = str(self.get_option("init"))
        inside = ["nsenter", "-t", init, "-a", "env", "-i", PATH, "HOME=/root", "USER=root"]
        return subprocess.run([*inside, *words], capture_output=True, check=False, **how)

    def exec_command(self, cmd, in_data=None, sudoable=True):
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        done = self._run(["/bin/sh", "-c", cmd], input=in_data or b"")
        return done.returncode, done.stdout, done.stderr

    def put_file(self, in_path, out_path):
        super().put_file(in_path, out_path)
        with open(in_path, "rb") as source:
            done = self._run(["/bin/sh", "-c", f"cat > {shlex.quote(out_path)}"], stdin=source)
        if done.returncode != 0:
            raise AnsibleConnectionFailure(f"cannot write {out_path}: {done.stderr!r}")

    def fetch_file(self, in_path, out_path):
        super().fetch_file(in_path, out_path)
        done = self._run(["cat", in_path])
        if done.returncode != 0:
            raise AnsibleConnectionFailure(f"cannot read {in_path}: {done.stderr!r}")
        with open(out_path, "wb") as target:
            target.write(done.stdout)
        os.chmod(out_path, 0o600)

    def close(self):
        self._connected = False
