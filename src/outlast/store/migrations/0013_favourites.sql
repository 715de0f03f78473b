-- Lists of runs people come back to: a name for a set of filters, seen by everybody who may look at the environment.
CREATE TABLE favourites (
    env_id BIGINT NOT NULL,
    name TEXT NOT NULL,
    query TEXT NOT NULL,
    made_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (env_id, name)
) {without_rowid};
