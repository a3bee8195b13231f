/* What the two hosts need of the memory of a call. Not for plugins. */
#ifndef PORTREEVE_MEMORY_H
#define PORTREEVE_MEMORY_H

#include <stddef.h>

/* A block of the call, grown to `new_size`; the old one is left to the end of the call. */
void *pr_realloc(void *old, size_t old_size, size_t new_size);

#endif
