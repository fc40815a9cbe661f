"""What the scripts that load this host share: its settings, its memory, and a server on it."""

import json
import os
import pathlib
import secrets
import signal
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Both ends of a session on one host: kernel, server, generator (docs/performance.md).
BYTES_PER_SESSION = 2 * 4_100 + 300 + 1_000
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SETTINGS = {
    "net.ipv4.ip_local_port_range": "1024 65535",
    "net.core.somaxconn": "65535",
    "net.core.netdev_max_backlog": "65536",
    "net.ipv4.tcp_max_syn_backlog": "65536",
    "net.ipv4.tcp_max_orphans": "1048576",
    "fs.file-max": "8388608",
}


class Settings:
    """Kernel settings, put back at the end, however it ends."""

    def __init__(self):
        self.old = {}

    def __enter__(self):
        end_at_signals()
        try:
            self.set()
        except BaseException:
            self.__exit__()
            raise
        return self

    def set(self):
        for name, value in SETTINGS.items():
            path = pathlib.Path("/proc/sys", *name.split("."))
            try:
                old = path.read_text().split()
                if enough(old, value.split()):
                    continue
                self.old[path] = " ".join(old)
                path.write_text(value)
            except OSError as error:
                self.old.pop(path, None)
                say(f"{name} stays as it is: {error}")
                continue
            say(f"{name} = {value} (was {' '.join(old)}; put back at the end)")

    def __exit__(self, *_):
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # to the end, now
        for path, value in self.old.items():
            try:
                path.write_text(value)
            except OSError as error:
                say(f"put {path} back to {value} by hand: {error}")
        if self.old:
            say(f"{len(self.old)} settings put back")


def end_at_signals():
    """Signals end the program in order: what was started ends too."""
    for number in SIGNALS:
        signal.signal(number, lambda number, _: sys.exit(128 + number))


def say(line):
    print(f"{pathlib.Path(sys.argv[0]).name}: {line}", file=sys.stderr, flush=True)


def enough(old, wanted):
    """A range is wide enough, or a limit high enough, already."""
    if len(wanted) == 2:
        return int(old[0]) <= int(wanted[0]) and int(old[1]) >= int(wanted[1])
    return int(old[0]) >= int(wanted[0])


def check_memory(sessions):
    """Ends the program with code 2 if the host can't carry so many with both ends."""
    need, free = sessions * BYTES_PER_SESSION, meminfo("MemAvailable:")
    if need > free:
        say(f"{sessions:,} sessions with both ends here need about {need / 2**30:.1f} GiB and "
            f"{free / 2**30:.1f} GiB are free")
        sys.exit(2)


def meminfo(name):
    for line in open("/proc/meminfo", encoding="ascii"):
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    return 0


def slab():
    return meminfo("Slab:")


def rss(pid):
    for line in open(f"/proc/{pid}/status", encoding="ascii"):
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def cpu_seconds(pid):
    fields = open(f"/proc/{pid}/stat", encoding="ascii").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def binaries(folder):
    """The folder with the release binaries; built if none is given."""
    if folder is not None:
        return folder
    subprocess.run(["cargo", "build", "--release", "--locked", "--quiet", "--workspace"],
                   cwd=ROOT, check=True)
    return ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release"


class Server:
    """A server for so many sessions, with its data in `folder`; `prefix`: what runs it."""

    def __init__(self, folder, binary, driver, sessions, heartbeat_s, extra=(), prefix=()):
        self.secret = folder / "secret"
        self.secret.write_text(secrets.token_hex(32))
        errors = folder / "stderr"
        self.process = subprocess.Popen(
            [*prefix, binary, "serve", "--listen", "127.0.0.1:0", "--driver", driver,
             "--data", folder / "data", "--auth-secret-file", self.secret,
             "--heartbeat-ms", str(heartbeat_s * 1000),
             "--sessions-max", str(sessions + 1_000), "--users-max", str(sessions + 1_000),
             *extra],
            stdout=subprocess.PIPE, stderr=open(errors, "w", encoding="utf-8"))
        self.pid = self.process.pid
        line = self.process.stdout.readline()
        if not line:
            say("the server did not start:\n" + errors.read_text(encoding="utf-8"))
            sys.exit(1)
        hello = json.loads(line)
        self.driver = hello["driver"]
        self.url = f"ws://{hello['listen']}/v1/chat"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
