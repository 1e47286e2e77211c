/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the workloads share. For each number read from standard input they do so many
 * operations and answer with the nanoseconds of one: who measures attaches a tracer
 * between two of them, and the process, its memory and its CPU stay the same.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* One operation; a result other than 0 is a failure of the benchmark. */
static int operation(char **arguments);

static unsigned long long now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000ull + time.tv_nsec;
}

int main(int count, char **arguments)
{
	unsigned long long operations, begin, i;

	if (count < 1)
		return 2;
	while (scanf("%llu", &operations) == 1) {
		begin = now();
		for (i = 0; i < operations; i++) {
			if (operation(arguments)) {
				perror(arguments[0]);
				return 1;
			}
		}
		printf("%.3f\n", (double)(now() - begin) / operations);
		fflush(stdout);
	}
	return 0;
}
