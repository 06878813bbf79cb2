/*
 * check: the few things a test-suite needs: named tests in suites, checks that say what they expected and
 * what they got, and a JUnit file. A check that fails ends its test.
 */
#ifndef CHECK_H
#define CHECK_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    const char *name;
    void (*run)(void);
} check_test;

typedef struct {
    const char *name;
    const check_test *tests; /* up to one without a name */
} check_suite;

#define TEST(function) {#function, function}
#define TESTS_END {NULL, NULL}

/* Run the suites (up to one without a name) and write JUnit to a file; the exit status for main. */
int check_run(const check_suite *suites, const char *junit_path);

#define CHECK(condition) check_true((condition) ? 1 : 0, #condition, __FILE__, __LINE__)
#define CHECK_U64(got, expected) check_u64((got), (expected), #got, __FILE__, __LINE__)
#define CHECK_S64(got, expected) check_s64((got), (expected), #got, __FILE__, __LINE__)
#define CHECK_F64(got, expected) check_f64((got), (expected), #got, __FILE__, __LINE__)
#define CHECK_BYTES(got, got_size, expected, expected_size) \
    check_bytes((got), (got_size), (expected), (expected_size), #got, __FILE__, __LINE__)

void check_true(int holds, const char *what, const char *file, int line);
void check_u64(uint64_t got, uint64_t expected, const char *what, const char *file, int line);
void check_s64(int64_t got, int64_t expected, const char *what, const char *file, int line);

/* Equal in every bit: 0.0 is not -0.0. Numbers are shown with their bytes in memory. */
void check_f64(double got, double expected, const char *what, const char *file, int line);

void check_bytes(const void *got, size_t got_size, const void *expected, size_t expected_size, const char *what,
                 const char *file, int line);

#endif
