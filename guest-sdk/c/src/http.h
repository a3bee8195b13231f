/* What the two halves of HTTP share. Not for plugins. */
#ifndef PORTREEVE_HTTP_INTERNAL_H
#define PORTREEVE_HTTP_INTERNAL_H

#include "portreeve.h"

/* Whether two names of headers are the same, in whatever case. */
bool pr_http_is_name(pr_str a, pr_str b);

#endif
