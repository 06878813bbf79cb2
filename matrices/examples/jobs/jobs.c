#include "jobs.h"

#include <stdio.h>
#include <stdlib.h>

static db_status run(db *session, const char *sql)
{
    return db_run(session, NULL, sql, 0, NULL);
}

db_status jobs_create(db *session)
{
    char schema[256];

    snprintf(schema, sizeof schema, "CREATE TABLE jobs (id %s, name %s NOT NULL UNIQUE, payload TEXT)", db_serial,
             db_word);
    return run(session, "DROP TABLE IF EXISTS jobs") == DB_OK ? run(session, schema) : DB_FAILED;
}

db_status jobs_push(db *session, const char *name, const char *payload)
{
    const char *parameters[] = {name, payload};

    return db_run(session, NULL, "INSERT INTO jobs (name, payload) VALUES (?, ?)", 2, parameters);
}

db_status jobs_claim(db *session, job *found)
{
    db_result result;
    db_status status = db_run(
        session, &result, "SELECT name, payload FROM jobs ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED", 0, NULL);

    *found = (job){NULL, NULL};
    if (status == DB_OK && result.rows == 1 && result.columns == 2) {
        *found = (job){result.cells[0], result.cells[1]};
        result.cells[0] = result.cells[1] = NULL; /* they are the job's now */
    }
    db_free(&result);
    return status;
}

db_status jobs_finish(db *session, const job *claimed)
{
    const char *parameters[] = {claimed->name};

    return db_run(session, NULL, "DELETE FROM jobs WHERE name = ?", 1, parameters);
}

void jobs_forget(job *claimed)
{
    free(claimed->name);
    free(claimed->payload);
    *claimed = (job){NULL, NULL};
}

long jobs_count(db *session)
{
    db_result result;
    long count = -1;

    if (db_run(session, &result, "SELECT COUNT(*) FROM jobs", 0, NULL) == DB_OK && result.rows == 1)
        count = strtol(result.cells[0], NULL, 10);
    db_free(&result);
    return count;
}

db_status jobs_begin(db *session)
{
    return run(session, "START TRANSACTION");
}

db_status jobs_commit(db *session)
{
    return run(session, "COMMIT");
}

db_status jobs_rollback(db *session)
{
    return run(session, "ROLLBACK");
}
