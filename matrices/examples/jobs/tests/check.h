/* check: a small harness that writes TAP 13 (https://testanything.org) to its standard output. */

#ifndef CHECK_H
#define CHECK_H

#include <stdbool.h>
#include <string.h>

/* Each says what is expected of the test that runs; a false one is reported with its place, and the test goes on. */
#define CHECK(condition) check_that((condition), #condition, __FILE__, __LINE__)
#define CHECK_EQUAL(expected, found) check_equal((expected), (found), #found, __FILE__, __LINE__)
#define CHECK_TEXT(expected, found) check_text((expected), (found), #found, __FILE__, __LINE__)

bool check_that(bool holds, const char *what, const char *file, int line);
bool check_equal(long expected, long found, const char *what, const char *file, int line);
bool check_text(const char *expected, const char *found, const char *what, const char *file, int line);

/* Something worth knowing where a test fails. */
void check_note(const char *text);

void check_run(const char *name, void (*test)(void));

/* Write the plan; the exit status of the program. */
int check_end(void);

#endif
