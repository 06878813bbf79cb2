/*
 * jobs: a queue in a database, for any number of programs at a time.
 *
 * A job that is claimed belongs to the session's transaction: nobody else gets it, `jobs_finish` and a commit take it
 * out of the queue, and a session that rolls back or goes away gives it back.
 */

#ifndef JOBS_H
#define JOBS_H

#include "db.h"

typedef struct {
    char *name;
    char *payload; /* NULL: none was given */
} job;

/* Make the queue anew, empty. */
db_status jobs_create(db *session);

/* Put a job at the end. Its name has to be new: DB_DUPLICATE otherwise. */
db_status jobs_push(db *session, const char *name, const char *payload);

/* Take the first job that nobody else has; `found->name` is NULL where there is none. Ends with jobs_forget. */
db_status jobs_claim(db *session, job *found);

/* The claimed job is done. */
db_status jobs_finish(db *session, const job *claimed);
void jobs_forget(job *claimed);

/* How many jobs this session sees; -1 where it cannot tell. */
long jobs_count(db *session);

db_status jobs_begin(db *session);
db_status jobs_commit(db *session);
db_status jobs_rollback(db *session);

#endif
