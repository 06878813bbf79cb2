#include "db.h"

#include <mysql.h>
#include <mysqld_error.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const db_product = "MariaDB";
const char *const db_serial = "BIGINT AUTO_INCREMENT PRIMARY KEY";
/* Without a collation of its own, "a", "A" and "Ä" would be the same key. */
const char *const db_word = "VARCHAR(80) COLLATE utf8mb4_bin";

struct db {
    MYSQL *connection;
    char error[512];
};

db *db_open(void)
{
    db *session = calloc(1, sizeof *session);

    if (session == NULL)
        return NULL;
    session->connection = mysql_init(NULL);
    mysql_options(session->connection, MYSQL_SET_CHARSET_NAME, "utf8mb4");
    if (!mysql_real_connect(session->connection, NULL, "jobs", NULL, "jobs", 0, "/run/mysqld/mysqld.sock", 0)) {
        fprintf(stderr, "%s\n", mysql_error(session->connection));
        db_close(session);
        return NULL;
    }
    return session;
}

void db_close(db *session)
{
    mysql_close(session->connection);
    free(session);
}

const char *db_error(const db *session)
{
    return session->error;
}

static db_status failed(db *session, MYSQL_STMT *statement)
{
    unsigned number = statement ? mysql_stmt_errno(statement) : mysql_errno(session->connection);

    snprintf(session->error, sizeof session->error, "%s",
             statement ? mysql_stmt_error(statement) : mysql_error(session->connection));
    return number == ER_DUP_ENTRY ? DB_DUPLICATE : DB_FAILED;
}

static db_status bind_parameters(MYSQL_STMT *statement, size_t count, const char *const parameters[], MYSQL_BIND *bound)
{
    for (size_t i = 0; i < count; i++)
        if (parameters[i] == NULL)
            bound[i].buffer_type = MYSQL_TYPE_NULL;
        else {
            bound[i].buffer_type = MYSQL_TYPE_STRING;
            bound[i].buffer = (void *)(size_t)parameters[i]; /* only read, although its type does not say so */
            bound[i].buffer_length = strlen(parameters[i]);
        }
    return count > 0 && mysql_stmt_bind_param(statement, bound) ? DB_FAILED : DB_OK;
}

typedef struct {
    unsigned long size;
    my_bool is_null;
} found;

/* One row: its sizes first, then each cell into memory of that size. */
static db_status fetch_row(MYSQL_STMT *statement, const found *sizes, size_t count, char **cells)
{
    int fetched = mysql_stmt_fetch(statement);

    if (fetched != 0 && fetched != MYSQL_DATA_TRUNCATED)
        return DB_FAILED;
    for (size_t i = 0; i < count; i++) {
        MYSQL_BIND cell = {0};

        if (sizes[i].is_null)
            continue;
        cells[i] = calloc(sizes[i].size + 1, 1);
        cell.buffer_type = MYSQL_TYPE_STRING;
        cell.buffer = cells[i];
        cell.buffer_length = sizes[i].size + 1;
        if (cells[i] == NULL || mysql_stmt_fetch_column(statement, &cell, (unsigned)i, 0))
            return DB_FAILED;
    }
    return DB_OK;
}

static db_status fetch_rows(MYSQL_STMT *statement, db_result *result)
{
    enum { MOST_COLUMNS = 8 };
    size_t count = mysql_stmt_field_count(statement);
    MYSQL_BIND columns[MOST_COLUMNS] = {0};
    found sizes[MOST_COLUMNS];
    db_status status = DB_OK;

    if (count == 0)
        return DB_OK;
    if (count > MOST_COLUMNS || mysql_stmt_store_result(statement) ||
        db_make(result, (size_t)mysql_stmt_num_rows(statement), count) != DB_OK)
        return DB_FAILED;
    for (size_t i = 0; i < count; i++) {
        columns[i].buffer_type = MYSQL_TYPE_STRING;
        columns[i].length = &sizes[i].size;
        columns[i].is_null = &sizes[i].is_null;
    }
    if (mysql_stmt_bind_result(statement, columns))
        status = DB_FAILED;
    for (size_t row = 0; status == DB_OK && row < result->rows; row++)
        status = fetch_row(statement, sizes, count, result->cells + row * count);
    return status;
}

db_status db_run(db *session, db_result *result, const char *sql, size_t count, const char *const parameters[])
{
    MYSQL_STMT *statement = mysql_stmt_init(session->connection);
    MYSQL_BIND *bound = calloc(count + 1, sizeof *bound);
    db_result unwanted = {0, 0, NULL};
    db_status status = DB_FAILED;

    if (result != NULL)
        *result = unwanted;
    if (statement != NULL && bound != NULL && !mysql_stmt_prepare(statement, sql, strlen(sql)) &&
        bind_parameters(statement, count, parameters, bound) == DB_OK && !mysql_stmt_execute(statement))
        status = fetch_rows(statement, result != NULL ? result : &unwanted);
    if (status != DB_OK)
        status = failed(session, statement);
    db_free(&unwanted);
    free(bound);
    if (statement != NULL)
        mysql_stmt_close(statement);
    return status;
}
