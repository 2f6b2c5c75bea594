CREATE TABLE logs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    next_seq INTEGER NOT NULL,
    message_count INTEGER NOT NULL,
    version INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    parent_id INTEGER REFERENCES logs (id),
    fork_seq INTEGER,
    hidden TEXT
);
CREATE TABLE messages (
    position INTEGER PRIMARY KEY,
    superseded INTEGER NOT NULL DEFAULT 0,
    wire_text TEXT NOT NULL,
    extra_text TEXT,
    tokens_text TEXT
);
CREATE TABLE sqlite_sequence(name,seq);
CREATE TABLE threads (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    log_id INTEGER NOT NULL REFERENCES logs (id),
    user_id TEXT,
    title TEXT,
    metadata TEXT NOT NULL,
    state TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    listed_at INTEGER NOT NULL
);
CREATE INDEX logs_of_parent ON logs (parent_id) WHERE parent_id IS NOT NULL;
CREATE INDEX threads_by_update ON threads (listed_at);
CREATE INDEX threads_of_user ON threads (user_id, listed_at) WHERE user_id IS NOT NULL;
CREATE INDEX threads_of_user_by_creation ON threads (user_id) WHERE user_id IS NOT NULL;
