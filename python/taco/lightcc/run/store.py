"""The launcher's side of the job's store."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from taco.lightcc.run import network


class StoreProcess:
    """Serves the job's TCPStore as long as it is open.

    Args:
        everywhere: whether ranks on other hosts have to reach it.

    Attributes:
        port: where it listens, from the beginning.
    """

    def __init__(self, everywhere: bool) -> None:
        with network.listen(everywhere) as server:
            self.port = int(server.getsockname()[1])
            program = str(Path(__file__).with_name("store_server.py"))
            self._process = subprocess.Popen(
                [sys.executable, program, str(server.fileno()), str(self.port)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=[server.fileno()],
                start_new_session=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )

    def complaint(self) -> str:
        """Why it does not serve any more; empty if it does."""
        if self._process.poll() is None or self._process.stderr is None:
            return ""
        said = self._process.stderr.read().decode(errors="replace").strip()
        return said.splitlines()[-1] if said else f"status {self._process.returncode}"

    def close(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stderr):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
