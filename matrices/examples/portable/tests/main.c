#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "suites.h"

static const check_suite suites[] = {
    {"fixed", fixed_tests},       {"varint", varint_tests}, {"float", float_tests},   {"packed", packed_tests},
    {"checksum", checksum_tests}, {"text", text_tests},     {"record", record_tests}, {NULL, NULL},
};

/* What this machine is, in the terms that the library must not depend on. */
static void describe_platform(FILE *out)
{
    const uint16_t one = 1;
    uint8_t first;

    memcpy(&first, &one, 1);
    fprintf(out, "byte order   %s\n", first ? "little-endian" : "big-endian");
    fprintf(out, "plain char   %s\n", CHAR_MIN < 0 ? "signed" : "unsigned");
    fprintf(out, "bits         int %zu, long %zu, size_t %zu, pointer %zu\n", CHAR_BIT * sizeof(int),
            CHAR_BIT * sizeof(long), CHAR_BIT * sizeof(size_t), CHAR_BIT * sizeof(void *));
    fprintf(out, "alignment    uint64_t %zu, double %zu, long double %zu\n", _Alignof(uint64_t), _Alignof(double),
            _Alignof(long double));
}

int main(int argc, char **argv)
{
    FILE *platform;

    if (argc != 3) {
        fprintf(stderr, "usage: %s RESULTS.xml PLATFORM.txt\n", argv[0]);
        return 2;
    }
    platform = fopen(argv[2], "w");
    if (!platform) {
        perror(argv[2]);
        return 2;
    }
    describe_platform(platform);
    describe_platform(stdout);
    fclose(platform);
    return check_run(suites, argv[1]);
}
