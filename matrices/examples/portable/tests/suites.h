#ifndef SUITES_H
#define SUITES_H

#include "check.h"

extern const check_test fixed_tests[], varint_tests[], float_tests[], packed_tests[]; /* wire_test.c */
extern const check_test checksum_tests[], text_tests[], record_tests[];               /* record_test.c */

#endif
