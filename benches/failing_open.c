// SPDX-License-Identifier: BSD-2-Clause
/* An open of a file that is not there: failing_open FILE */
#include <errno.h>
#include <fcntl.h>

#include "loop.h"

static int operation(char **arguments)
{
	return open(arguments[1], O_RDONLY) >= 0 || errno != ENOENT;
}
