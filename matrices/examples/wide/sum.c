/* The sum of many numbers, in two ways: one by one, and sixteen at a time where the CPU has AVX-512. Prints TAP. */

#include <stdio.h>
#include <string.h>

#define COUNT 4096

typedef int sixteen __attribute__((vector_size(64)));

static int numbers[COUNT] __attribute__((aligned(64)));

static int one_by_one(void)
{
	int sum = 0;

	for (int i = 0; i < COUNT; i++)
		sum += numbers[i];
	return sum;
}

__attribute__((target("avx512f"), noinline)) static int sixteen_at_a_time(void)
{
	sixteen sums = {0};
	int sum = 0;

	for (int i = 0; i < COUNT; i += 16)
		sums += *(const sixteen *)(numbers + i);
	for (int i = 0; i < 16; i++)
		sum += sums[i];
	return sum;
}

int main(void)
{
	const int right = COUNT / 2 * (COUNT - 1) * 3;
	int narrow, wide;

	for (int i = 0; i < COUNT; i++)
		numbers[i] = 3 * i;

	puts("1..2");
	narrow = one_by_one();
	printf("%s 1 - one by one\n", narrow == right ? "ok" : "not ok");
	if (!__builtin_cpu_supports("avx512f")) {
		puts("ok 2 - sixteen at a time # SKIP this CPU has no AVX-512");
		return narrow != right;
	}
	wide = sixteen_at_a_time();
	printf("%s 2 - sixteen at a time\n", wide == right ? "ok" : "not ok");
	return narrow != right || wide != right;
}
