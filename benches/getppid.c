// SPDX-License-Identifier: BSD-2-Clause
/* The cheapest call: what is added to it is the tracer's. */
#include <unistd.h>

#include "loop.h"

static int operation(char **arguments)
{
	(void)arguments;
	return getppid() < 0;
}
