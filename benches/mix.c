// SPDX-License-Identifier: BSD-2-Clause
/*
 * 20 calls: 13 getppid, 4 read, an open with its close, an open that fails.
 *
 *	mix FILE MISSING
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "loop.h"

static int operation(char **arguments)
{
	char bytes[64];
	int file = open(arguments[1], O_RDONLY);
	int i;

	for (i = 0; i < 4; i++) {
		if (read(file, bytes, sizeof(bytes)) < 0)
			return 1;
	}
	for (i = 0; i < 13; i++)
		getppid();
	if (open(arguments[2], O_RDONLY) >= 0 || errno != ENOENT)
		return 1;
	return close(file);
}
