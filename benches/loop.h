/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the workloads share. For each line `OPERATIONS LOOPS` on standard input they make
 * so many loops of so many operations each, and answer with a line of nanoseconds: of the
 * yardstick, then for each loop of one of its operations and of the yardstick after it.
 * Who measures attaches a tracer between two lines: the process, its memory and its CPU
 * stay the same.
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

/*
 * A piece of arithmetic that keeps a whole core busy, without memory and without the kernel:
 * always the same, so it takes longer only while somebody else has a part of the core. That
 * is another virtual machine, on the core's other thread.
 */
static unsigned long long yardstick(void)
{
	unsigned long long begin = now();
	unsigned long a = 1, b = 2, c = 3, d = 4;
	int i;

	for (i = 0; i < 16000; i++) {
		a += i;
		b ^= i;
		c += i;
		d ^= i;
		/* Not to be left out, nor made one. */
		__asm__ volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d));
	}
	return now() - begin;
}

int main(int count, char **arguments)
{
	unsigned long long operations, loops, begin, loop, i;

	if (count < 1)
		return 2;
	while (scanf("%llu %llu", &operations, &loops) == 2) {
		printf("%llu", yardstick());
		for (loop = 0; loop < loops; loop++) {
			begin = now();
			for (i = 0; i < operations; i++) {
				if (operation(arguments)) {
					perror(arguments[0]);
					return 1;
				}
			}
			printf(" %.3f", (double)(now() - begin) / operations);
			printf(" %llu", yardstick());
		}
		putchar('\n');
		fflush(stdout);
	}
	return 0;
}
