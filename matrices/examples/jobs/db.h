/* db: one session with a database server, whichever it is. There is one file for each: postgresql.c, mariadb.c. */

#ifndef DB_H
#define DB_H

#include <stddef.h>

typedef enum { DB_OK, DB_DUPLICATE, DB_FAILED } db_status;

typedef struct {
    size_t rows, columns;
    char **cells; /* row by row; NULL where SQL has NULL, else text in UTF-8 */
} db_result;

typedef struct db db;

/* What a schema has to say in the server's own words. */
extern const char *const db_product; /* "PostgreSQL" */
extern const char *const db_serial;  /* the type of a key that the server counts up */
extern const char *const db_word;    /* the type of a short text that is only equal to itself */

/* A session with the database `jobs`, over the server's own socket; NULL where there is none, after saying why. */
db *db_open(void);
void db_close(db *session);

/*
 * Run one statement. Each `?` in it stands for the next parameter, a text or NULL. `result` may be NULL where no
 * rows are wanted; otherwise db_free has to be called for it, whatever comes back.
 */
db_status db_run(db *session, db_result *result, const char *sql, size_t count, const char *const parameters[]);

/* What the server said about the last statement that it refused. */
const char *db_error(const db *session);

/* Room for the cells of a result; they are NULL at first. The status is DB_FAILED where there is none. */
db_status db_make(db_result *result, size_t rows, size_t columns);
void db_free(db_result *result);

#endif
