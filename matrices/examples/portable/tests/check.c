#define _POSIX_C_SOURCE 200809L

#include "check.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { MOST_TESTS = 200, MESSAGE_SIZE = 600, HEX_SIZE = 200 };

typedef struct {
    const char *suite;
    const char *name;
    double seconds;
    const char *file; /* of the check that failed; NULL for none */
    int line;
    char message[MESSAGE_SIZE];
} result;

static result results[MOST_TESTS];
static size_t result_count;
static jmp_buf leave_test;

static void fail(const char *file, int line, const char *format, ...)
{
    result *now = &results[result_count];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(now->message, sizeof now->message, format, arguments);
    va_end(arguments);
    now->file = file;
    now->line = line;
    longjmp(leave_test, 1);
}

void check_true(int holds, const char *what, const char *file, int line)
{
    if (!holds)
        fail(file, line, "%s does not hold", what);
}

void check_u64(uint64_t got, uint64_t expected, const char *what, const char *file, int line)
{
    if (got != expected)
        fail(file, line, "%s: expected %" PRIu64 " (0x%" PRIx64 "), got %" PRIu64 " (0x%" PRIx64 ")", what, expected,
             expected, got, got);
}

void check_s64(int64_t got, int64_t expected, const char *what, const char *file, int line)
{
    if (got != expected)
        fail(file, line, "%s: expected %" PRId64 ", got %" PRId64, what, expected, got);
}

static const char *hex(char *out, const void *data, size_t size)
{
    const uint8_t *bytes = data;
    size_t used = 0;

    out[0] = '\0';
    for (size_t i = 0; i < size && used + 8 < HEX_SIZE; i++)
        used += (size_t)snprintf(out + used, HEX_SIZE - used, i ? " %02x" : "%02x", bytes[i]);
    if (size * 3 > used + 1)
        snprintf(out + used, HEX_SIZE - used, " ...");
    return out;
}

void check_f64(double got, double expected, const char *what, const char *file, int line)
{
    char expected_hex[HEX_SIZE], got_hex[HEX_SIZE];

    if (memcmp(&got, &expected, sizeof got) != 0)
        fail(file, line, "%s: expected %.17g (in memory %s), got %.17g (in memory %s)", what, expected,
             hex(expected_hex, &expected, sizeof expected), got, hex(got_hex, &got, sizeof got));
}

void check_bytes(const void *got, size_t got_size, const void *expected, size_t expected_size, const char *what,
                 const char *file, int line)
{
    char expected_hex[HEX_SIZE], got_hex[HEX_SIZE];

    if (got_size != expected_size || memcmp(got, expected, got_size) != 0)
        fail(file, line, "%s: expected %zu bytes [%s], got %zu bytes [%s]", what, expected_size,
             hex(expected_hex, expected, expected_size), got_size, hex(got_hex, got, got_size));
}

static double now_seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void run_test(const char *suite, const check_test *test)
{
    result *now = &results[result_count];
    double start = now_seconds();

    now->suite = suite;
    now->name = test->name;
    if (setjmp(leave_test) == 0)
        test->run();
    now->seconds = now_seconds() - start;
    if (now->file)
        printf("FAIL  %s.%s\n      %s:%d: %s\n", suite, now->name, now->file, now->line, now->message);
    else
        printf("ok    %s.%s\n", suite, now->name);
    result_count++;
}

static void put_escaped(FILE *out, const char *text)
{
    for (; *text; text++) {
        switch (*text) {
        case '&': fputs("&amp;", out); break;
        case '<': fputs("&lt;", out); break;
        case '>': fputs("&gt;", out); break;
        case '"': fputs("&quot;", out); break;
        default: fputc(*text, out);
        }
    }
}

static void put_case(FILE *out, const result *now)
{
    fprintf(out, "    <testcase classname=\"portable.%s\" name=\"%s\" time=\"%.6f\"", now->suite, now->name, now->seconds);
    if (!now->file) {
        fputs("/>\n", out);
        return;
    }
    fputs(">\n      <failure type=\"check\" message=\"", out);
    put_escaped(out, now->message);
    fprintf(out, "\">%s:%d: ", now->file, now->line);
    put_escaped(out, now->message);
    fputs("</failure>\n    </testcase>\n", out);
}

static size_t failures_in(const char *suite)
{
    size_t count = 0;

    for (size_t i = 0; i < result_count; i++)
        count += results[i].file && (suite == NULL || results[i].suite == suite);
    return count;
}

static void put_suite(FILE *out, const char *suite)
{
    size_t tests = 0;
    double seconds = 0;

    for (size_t i = 0; i < result_count; i++) {
        if (results[i].suite == suite) {
            tests++;
            seconds += results[i].seconds;
        }
    }
    fprintf(out, "  <testsuite name=\"%s\" tests=\"%zu\" failures=\"%zu\" errors=\"0\" skipped=\"0\" time=\"%.6f\">\n", suite,
            tests, failures_in(suite), seconds);
    for (size_t i = 0; i < result_count; i++)
        if (results[i].suite == suite)
            put_case(out, &results[i]);
    fputs("  </testsuite>\n", out);
}

static int write_junit(const check_suite *suites, const char *path)
{
    FILE *out = fopen(path, "w");

    if (!out) {
        perror(path);
        return -1;
    }
    fputs("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n", out);
    fprintf(out, "<testsuites name=\"portable\" tests=\"%zu\" failures=\"%zu\">\n", result_count, failures_in(NULL));
    for (const check_suite *suite = suites; suite->name; suite++)
        put_suite(out, suite->name);
    fputs("</testsuites>\n", out);
    if (fclose(out) != 0) {
        perror(path);
        return -1;
    }
    return 0;
}

int check_run(const check_suite *suites, const char *junit_path)
{
    for (const check_suite *suite = suites; suite->name; suite++)
        for (const check_test *test = suite->tests; test->name && result_count < MOST_TESTS; test++)
            run_test(suite->name, test);
    printf("%zu tests, %zu failed\n", result_count, failures_in(NULL));
    if (write_junit(suites, junit_path) != 0)
        return 2;
    return failures_in(NULL) > 0;
}
