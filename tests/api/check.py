"""Plays requests that schemathesis makes from the OpenAPI document against a real server.

Called by scripts/api-check: check.py MYRIAD SCHEMATHESIS SECONDS. The server has accounts,
contacts, blocks, messages, a report and a group; no answer may be a 5xx, or off the document.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request

ADMIN = "an admin token for one check, long enough"
PASSWORD = "correct horse battery"
CHECKS = ",".join([
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
])
# They end the session of whoever asks, so all that follows would be told 401.
LAST = "^/v1/(sessions/current|devices/|accounts/me/password)"


def start(myriad, folder):
    """Starts a server; gives it and the address of its API."""
    (folder / "secret").write_text("a secret of at least thirty-two bytes")
    (folder / "admin").write_text(ADMIN)
    command = [
        myriad, "serve", "--data", folder / "data", "--auth-secret-file", folder / "secret",
        "--listen", "127.0.0.1:0", "--shards", "2", "--sessions-max", "100",
        "--users-max", "100000", "--segment-bytes", "4194304", "--registration", "open",
        "--api-listen", "127.0.0.1:0", "--admin-token-file", folder / "admin",
    ]
    with open(folder / "log", "w") as log:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
    line = server.stdout.readline()
    if not line:
        sys.exit("the server did not start: " + (folder / "log").read_text())
    return server, "http://" + json.loads(line)["api"]


def ask(api, method, path, token=None, body=None):
    """Asks once, and takes nothing but a success."""
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = "Bearer " + token
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(api + path, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            text = answer.read()
            return json.loads(text) if text else None
    except urllib.error.HTTPError as error:
        sys.exit(f"{method} {path}: {error.code} {error.read().decode()}")


def settle(api):
    """Makes people with something to find; gives Ann's token."""
    people = {}
    for name in ["ann", "bob", "cat", "dan"]:
        body = {"name": name, "password": PASSWORD, "label": "check"}
        people[name] = ask(api, "POST", "/v1/accounts", None, body)
    token = people["ann"]["access_token"]
    ids = {name: person["user"] for name, person in people.items()}
    ask(api, "PUT", "/v1/contacts/" + ids["bob"], token, {"alias": "Bobby"})
    ask(api, "PUT", "/v1/blocks/" + ids["cat"], token)
    message = {"to": {"user": ids["bob"]}, "client_id": "1", "payload": "aGVsbG8="}
    ask(api, "POST", "/v1/messages", token, message)
    ask(api, "POST", "/v1/reports", token, {"user": ids["cat"], "reason": "spam"})
    group = ask(api, "POST", "/v1/groups", token, {"name": "Hikers"})
    path = f"/v1/groups/{group['id']}/members"
    ask(api, "POST", path, token, {"id": ids["bob"]})
    return token


def play(schemathesis, api, folder, token, seconds, *choice):
    """One run; says whether all was well."""
    command = [
        schemathesis, "run", api + "/v1/openapi.json", "--checks", CHECKS,
        "--header", "Authorization:Bearer " + token, "--phases", "examples,coverage,fuzzing",
        "--max-time", str(seconds), "--rate-limit", "40/s", "--seed", "1", "--warnings", "off",
        "--generation-database", "none", "--request-timeout", "30", *choice,
    ]
    return subprocess.run(command, cwd=folder).returncode == 0


def main(myriad, schemathesis, seconds):
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        server, api = start(myriad, folder)
        try:
            token = settle(api)
            admin = "^/v1/admin/"
            user = f"{LAST}|{admin}"
            good = play(schemathesis, api, folder, token, seconds * 2 // 3,
                        "--exclude-path-regex", user)
            good &= play(schemathesis, api, folder, ADMIN, seconds // 4,
                         "--include-path-regex", admin)
            good &= play(schemathesis, api, folder, token, max(seconds // 12, 1),
                         "--include-path-regex", LAST)
            if server.poll() is not None:
                sys.exit("the server ended: " + (folder / "log").read_text())
        finally:
            server.terminate()
            server.wait()
        said = (folder / "log").read_text()
        if "panicked" in said or PASSWORD in said or ADMIN in said or token in said:
            sys.exit("the server panicked, or its log holds a secret: " + said)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
