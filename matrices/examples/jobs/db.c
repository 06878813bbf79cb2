#include "db.h"

#include <stdlib.h>

db_status db_make(db_result *result, size_t rows, size_t columns)
{
    size_t cells = rows * columns;

    *result = (db_result){rows, columns, calloc(cells ? cells : 1, sizeof *result->cells)};
    return result->cells ? DB_OK : DB_FAILED;
}

void db_free(db_result *result)
{
    for (size_t i = 0; result->cells && i < result->rows * result->columns; i++)
        free(result->cells[i]);
    free(result->cells);
    *result = (db_result){0, 0, NULL};
}
