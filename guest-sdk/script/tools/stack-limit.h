/* Read before quickjs.c. The engine knows no bound for its stack on WASI, where a recursion without
 * end would trap and not throw. It can measure its stack here as anywhere else, so it is told that
 * this is no WASI, after the headers that need to know. */
#define _GNU_SOURCE
#include <assert.h>
#include <errno.h>
#include <fenv.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#include "cutils.h"
#undef __wasi__
