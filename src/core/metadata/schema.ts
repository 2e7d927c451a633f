import type { Migration } from "#pkg/sqlite/database.ts";

/**
 * Every object has a node: its namespace, kind and key under one number. A node may stand without an object, when a
 * label or a lease names something that is not there yet.
 *
 * Kinds: `content`, `ingest`, `image`, `container`, `sandbox`, `snapshot/<snapshotter>`, and what resource collectors
 * add.
 * Times ending in `_at` are nanoseconds, in `_ms` milliseconds since 1970. Labels are JSON objects.
 */
const first = `
  CREATE TABLE namespaces (
    name TEXT PRIMARY KEY,
    labels TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE sequences (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE nodes (
    id INTEGER PRIMARY KEY,
    ns TEXT NOT NULL,
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    UNIQUE (ns, kind, key)
  ) STRICT;

  CREATE TABLE blobs (
    node INTEGER PRIMARY KEY,
    size INTEGER NOT NULL,
    root INTEGER NOT NULL,
    labels TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
  ) STRICT;

  CREATE TABLE ingests (
    node INTEGER PRIMARY KEY,
    backend_ref TEXT NOT NULL UNIQUE,
    expected TEXT,
    expires_ms INTEGER
  ) STRICT;

  CREATE TABLE images (
    node INTEGER PRIMARY KEY,
    target INTEGER NOT NULL,
    digest TEXT NOT NULL,
    media_type TEXT NOT NULL,
    size INTEGER NOT NULL,
    annotations TEXT NOT NULL,
    expires_ms INTEGER,
    labels TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
  ) STRICT;

  CREATE TABLE containers (
    node INTEGER PRIMARY KEY,
    image TEXT NOT NULL,
    runtime TEXT NOT NULL,
    runtime_options_type TEXT,
    runtime_options BLOB,
    spec_type TEXT NOT NULL,
    spec BLOB NOT NULL,
    snapshotter TEXT NOT NULL,
    snapshot_key TEXT NOT NULL,
    sandbox TEXT NOT NULL,
    extensions TEXT NOT NULL,
    labels TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
  ) STRICT;

  CREATE TABLE snapshots (
    node INTEGER PRIMARY KEY,
    parent INTEGER REFERENCES snapshots,
    backend_key TEXT NOT NULL,
    root INTEGER NOT NULL,
    labels TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
  ) STRICT;
  CREATE INDEX snapshots_parent ON snapshots (parent);
  CREATE INDEX snapshots_backend_key ON snapshots (backend_key);

  -- Commits that a backend was asked for and that are not yet known to have happened.
  CREATE TABLE snapshot_commits (
    key_node INTEGER PRIMARY KEY,
    name_node INTEGER NOT NULL UNIQUE,
    parent INTEGER,
    backend_name TEXT NOT NULL,
    labels TEXT NOT NULL,
    created_at INTEGER NOT NULL
  ) STRICT;

  CREATE TABLE leases (
    id INTEGER PRIMARY KEY,
    ns TEXT NOT NULL,
    name TEXT NOT NULL,
    expires_ms INTEGER,
    flat INTEGER NOT NULL,
    labels TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (ns, name)
  ) STRICT;

  CREATE TABLE lease_resources (
    lease INTEGER NOT NULL REFERENCES leases ON DELETE CASCADE,
    node INTEGER NOT NULL,
    PRIMARY KEY (lease, node)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX lease_resources_node ON lease_resources (node);

  -- What keeps what: src alive keeps dst alive. The owner is whose label or field says so.
  CREATE TABLE refs (
    src INTEGER NOT NULL,
    dst INTEGER NOT NULL,
    owner INTEGER NOT NULL,
    PRIMARY KEY (src, dst, owner)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX refs_owner ON refs (owner);
  CREATE INDEX refs_dst ON refs (dst);

  -- The same, as long as one of the uses of dst is newer ('<') or older ('>') than so many milliseconds.
  CREATE TABLE conditional_refs (
    src INTEGER NOT NULL,
    dst INTEGER NOT NULL,
    op TEXT NOT NULL,
    age_ms REAL NOT NULL,
    PRIMARY KEY (src, dst, op, age_ms)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX conditional_refs_dst ON conditional_refs (dst);

  CREATE TABLE uses (
    node INTEGER NOT NULL,
    used_ms INTEGER NOT NULL,
    PRIMARY KEY (node, used_ms)
  ) STRICT, WITHOUT ROWID;
`;

const sandboxes = `
  CREATE TABLE sandboxes (
    node INTEGER PRIMARY KEY,
    runtime TEXT NOT NULL,
    runtime_options_type TEXT,
    runtime_options BLOB,
    spec_type TEXT,
    spec BLOB,
    sandboxer TEXT NOT NULL,
    extensions TEXT NOT NULL,
    labels TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
  ) STRICT;
`;

/** Append only: a database in the field has gone through a prefix of these. */
export const migrations: readonly Migration[] = [first, sandboxes];
