#include "db.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const db_product = "PostgreSQL";
const char *const db_serial = "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY";
const char *const db_word = "VARCHAR(80)";

static const char unique_violation[] = "23505"; /* PostgreSQL's documentation, appendix A */

struct db {
    PGconn *connection;
};

static void say_nothing(void *unused, const PGresult *notice)
{
    (void)unused;
    (void)notice;
}

db *db_open(void)
{
    db *session = malloc(sizeof *session);

    if (session == NULL)
        return NULL;
    session->connection = PQconnectdb("host=/run/postgresql dbname=jobs user=jobs client_encoding=UTF8");
    if (PQstatus(session->connection) != CONNECTION_OK) {
        fputs(PQerrorMessage(session->connection), stderr);
        db_close(session);
        return NULL;
    }
    PQsetNoticeReceiver(session->connection, say_nothing, NULL);
    return session;
}

void db_close(db *session)
{
    PQfinish(session->connection);
    free(session);
}

const char *db_error(const db *session)
{
    return PQerrorMessage(session->connection);
}

/* PostgreSQL counts its parameters: `?, ?` -> `$1, $2`. */
static char *numbered(const char *sql)
{
    char *copy = malloc(4 * strlen(sql) + 1), *out = copy;
    unsigned number = 0;

    if (copy == NULL)
        return NULL;
    for (; *sql != '\0'; sql++)
        if (*sql == '?')
            out += sprintf(out, "$%u", ++number % 1000);
        else
            *out++ = *sql;
    *out = '\0';
    return copy;
}

static db_status copy_rows(const PGresult *from, db_result *to)
{
    if (db_make(to, (size_t)PQntuples(from), (size_t)PQnfields(from)) != DB_OK)
        return DB_FAILED;
    for (size_t i = 0; i < to->rows * to->columns; i++) {
        int row = (int)(i / to->columns), column = (int)(i % to->columns);

        if (PQgetisnull(from, row, column))
            continue;
        to->cells[i] = strdup(PQgetvalue(from, row, column));
        if (to->cells[i] == NULL)
            return DB_FAILED;
    }
    return DB_OK;
}

static db_status status_of(const PGresult *answer)
{
    const char *state = PQresultErrorField(answer, PG_DIAG_SQLSTATE);

    switch (PQresultStatus(answer)) {
    case PGRES_COMMAND_OK:
    case PGRES_TUPLES_OK:
        return DB_OK;
    default:
        return state != NULL && strcmp(state, unique_violation) == 0 ? DB_DUPLICATE : DB_FAILED;
    }
}

db_status db_run(db *session, db_result *result, const char *sql, size_t count, const char *const parameters[])
{
    char *own = numbered(sql);
    PGresult *answer;
    db_status status;

    if (result != NULL)
        *result = (db_result){0, 0, NULL};
    if (own == NULL)
        return DB_FAILED;
    answer = PQexecParams(session->connection, own, (int)count, NULL, parameters, NULL, NULL, 0);
    status = status_of(answer);
    if (status == DB_OK && result != NULL)
        status = copy_rows(answer, result);
    PQclear(answer);
    free(own);
    return status;
}
