#include "check.h"

#include <stdio.h>

static unsigned tests, failed_tests;
static bool failed;
static char notes[4096];

static void note(const char *text)
{
    size_t used = strlen(notes);

    if (used < sizeof notes - 1)
        snprintf(notes + used, sizeof notes - used, "# %s\n", text);
}

void check_note(const char *text)
{
    note(text);
}

bool check_that(bool holds, const char *what, const char *file, int line)
{
    char text[256];

    if (!holds) {
        failed = true;
        snprintf(text, sizeof text, "%s:%d: not true: %s", file, line, what);
        note(text);
    }
    return holds;
}

bool check_equal(long expected, long found, const char *what, const char *file, int line)
{
    char text[256];

    if (expected != found) {
        failed = true;
        snprintf(text, sizeof text, "%s:%d: %s is %ld, expected %ld", file, line, what, found, expected);
        note(text);
    }
    return expected == found;
}

bool check_text(const char *expected, const char *found, const char *what, const char *file, int line)
{
    bool same = (expected == NULL || found == NULL) ? expected == found : strcmp(expected, found) == 0;
    char text[512];

    if (!same) {
        failed = true;
        snprintf(text, sizeof text, "%s:%d: %s is '%s', expected '%s'", file, line, what, found ? found : "NULL",
                 expected ? expected : "NULL");
        note(text);
    }
    return same;
}

void check_run(const char *name, void (*test)(void))
{
    failed = false;
    notes[0] = '\0';
    test();
    failed_tests += failed;
    printf("%sok %u - %s\n%s", failed ? "not " : "", ++tests, name, failed ? notes : "");
    fflush(stdout);
}

int check_end(void)
{
    printf("1..%u\n", tests);
    return failed_tests > 0;
}
