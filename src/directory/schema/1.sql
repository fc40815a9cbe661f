-- Everybody the directory knows something of. `password` is NULL for who logs in with tokens of the
-- operator alone; such a row comes by need. state: 0 lives, 1 suspended, 2 being deleted.
CREATE TABLE users (
    user           INTEGER PRIMARY KEY,
    created_s      INTEGER NOT NULL,
    state          INTEGER NOT NULL DEFAULT 0,
    name           TEXT UNIQUE,
    phone          TEXT UNIQUE,
    password       TEXT,
    display        TEXT NOT NULL DEFAULT '',
    about          TEXT NOT NULL DEFAULT '',
    avatar         TEXT NOT NULL DEFAULT '',
    last_seen      INTEGER NOT NULL DEFAULT 0,
    receipts_off   INTEGER NOT NULL DEFAULT 0,
    marks_requests INTEGER NOT NULL DEFAULT 0,
    group_adders   INTEGER NOT NULL DEFAULT 0,
    note           TEXT NOT NULL DEFAULT '',
    devices_made   INTEGER NOT NULL DEFAULT 0,
    ties           INTEGER NOT NULL DEFAULT 0,
    not_before_s   INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX users_suspended ON users (user) WHERE state = 1;
CREATE INDEX users_ending ON users (user) WHERE state = 2;

-- Accounts that were deleted. Their ids are not given again.
CREATE TABLE gone (
    user         INTEGER PRIMARY KEY,
    not_before_s INTEGER NOT NULL
) STRICT;

-- Devices that are logged in with a password. A refresh token is a family, the same as long as the
-- device is logged in, and a secret that is good once; of both only hashes are here.
CREATE TABLE devices (
    user        INTEGER NOT NULL REFERENCES users (user) ON DELETE CASCADE,
    device      INTEGER NOT NULL,
    label       TEXT NOT NULL,
    created_s   INTEGER NOT NULL,
    refreshed_s INTEGER NOT NULL,
    family      BLOB NOT NULL UNIQUE,
    secret      BLOB NOT NULL,
    PRIMARY KEY (user, device)
) STRICT, WITHOUT ROWID;
CREATE INDEX devices_refreshed ON devices (refreshed_s);

-- Devices that were logged out: their tokens issued before are refused. told: the user's home
-- has obeyed.
CREATE TABLE revoked (
    user         INTEGER NOT NULL REFERENCES users (user) ON DELETE CASCADE,
    device       INTEGER NOT NULL,
    not_before_s INTEGER NOT NULL,
    told         INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (user, device)
) STRICT, WITHOUT ROWID;
CREATE INDEX revoked_untold ON revoked (user, device) WHERE told = 0;
CREATE INDEX revoked_at ON revoked (not_before_s);

-- What `owner` has to do with `other`: a contact, blocked, or both.
CREATE TABLE ties (
    owner   INTEGER NOT NULL REFERENCES users (user) ON DELETE CASCADE,
    other   INTEGER NOT NULL,
    contact INTEGER NOT NULL,
    blocked INTEGER NOT NULL,
    alias   TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (owner, other)
) STRICT, WITHOUT ROWID;
CREATE INDEX ties_blocked ON ties (owner, other) WHERE blocked = 1;

-- Invitations to groups. hidden: of somebody the target blocked; nobody sees it.
CREATE TABLE invitations (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    target    INTEGER NOT NULL REFERENCES users (user) ON DELETE CASCADE,
    grp       INTEGER NOT NULL,
    inviter   INTEGER NOT NULL,
    at_s      INTEGER NOT NULL,
    hidden    INTEGER NOT NULL,
    UNIQUE (target, grp, inviter)
) STRICT;
CREATE INDEX invitations_of ON invitations (inviter);
CREATE INDEX invitations_at ON invitations (at_s);

-- Codes with which to register; of each only its hash.
CREATE TABLE invites (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    code    BLOB NOT NULL UNIQUE,
    uses    INTEGER NOT NULL,
    until_s INTEGER NOT NULL,
    note    TEXT NOT NULL
) STRICT;
CREATE INDEX invites_until ON invites (until_s);

CREATE TABLE reports (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    reporter INTEGER NOT NULL,
    user     INTEGER NOT NULL,
    grp      INTEGER,
    position INTEGER,
    reason   TEXT NOT NULL,
    text     TEXT NOT NULL,
    at_s     INTEGER NOT NULL,
    closed   TEXT
) STRICT;
CREATE INDEX reports_open ON reports (reporter) WHERE closed IS NULL;
CREATE INDEX reports_waiting ON reports (id) WHERE closed IS NULL;

-- Answers of the HTTP API under their idempotency keys. status NULL: under way.
CREATE TABLE requests (
    user    INTEGER NOT NULL,
    key     TEXT NOT NULL,
    request BLOB NOT NULL,
    status  INTEGER,
    body    BLOB,
    at_s    INTEGER NOT NULL,
    PRIMARY KEY (user, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX requests_at ON requests (at_s);

-- What the webhook is to tell.
CREATE TABLE events (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    kind     TEXT NOT NULL,
    user     INTEGER NOT NULL,
    body     TEXT NOT NULL,
    at_s     INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    next_s   INTEGER NOT NULL
) STRICT;
CREATE INDEX events_next ON events (next_s);

-- How many there are: counting a million rows would take as long as many questions.
CREATE TABLE counts (
    what  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO counts VALUES
    ('users', 0), ('suspended', 0), ('devices', 0), ('ties', 0), ('reports', 0), ('events', 0);
CREATE TRIGGER users_in AFTER INSERT ON users BEGIN
    UPDATE counts SET value = value + 1 WHERE what = 'users';
END;
CREATE TRIGGER users_out AFTER DELETE ON users BEGIN
    UPDATE counts SET value = value - 1 WHERE what = 'users';
    UPDATE counts SET value = value - (old.state = 1) WHERE what = 'suspended';
END;
CREATE TRIGGER users_state AFTER UPDATE OF state ON users WHEN old.state <> new.state BEGIN
    UPDATE counts SET value = value + (new.state = 1) - (old.state = 1) WHERE what = 'suspended';
END;
CREATE TRIGGER devices_in AFTER INSERT ON devices BEGIN
    UPDATE counts SET value = value + 1 WHERE what = 'devices';
END;
CREATE TRIGGER devices_out AFTER DELETE ON devices BEGIN
    UPDATE counts SET value = value - 1 WHERE what = 'devices';
END;
CREATE TRIGGER ties_in AFTER INSERT ON ties BEGIN
    UPDATE counts SET value = value + 1 WHERE what = 'ties';
    UPDATE users SET ties = ties + 1 WHERE user = new.owner;
END;
CREATE TRIGGER ties_out AFTER DELETE ON ties BEGIN
    UPDATE counts SET value = value - 1 WHERE what = 'ties';
    UPDATE users SET ties = ties - 1 WHERE user = old.owner;
END;
CREATE TRIGGER reports_in AFTER INSERT ON reports BEGIN
    UPDATE counts SET value = value + 1 WHERE what = 'reports';
END;
CREATE TRIGGER reports_closed AFTER UPDATE OF closed ON reports WHEN old.closed IS NULL BEGIN
    UPDATE counts SET value = value - 1 WHERE what = 'reports';
END;
CREATE TRIGGER events_in AFTER INSERT ON events BEGIN
    UPDATE counts SET value = value + 1 WHERE what = 'events';
END;
CREATE TRIGGER events_out AFTER DELETE ON events BEGIN
    UPDATE counts SET value = value - 1 WHERE what = 'events';
END;
