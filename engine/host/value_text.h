/* From PostgreSQL's binary send format to its text output (DateStyle ISO, TimeZone UTC): the way back of
 * wire/pgtext.h. */
#ifndef PJ_HOST_VALUE_TEXT_H
#define PJ_HOST_VALUE_TEXT_H

#include "base/buf.h"
#include "pgprojector.h"

#include <stdbool.h>

/* Appends the value's text; false, and nothing, for NULL and where the bytes are no value of the type. Bytes of
 * PJ_ANY and PJ_TEXT that are not UTF-8 are shown as \x and hex digits, though no text of that form comes back to
 * the same bytes. */
bool pj_value_text(enum pj_type type, struct pj_value value, struct pj_buf *text);

#endif
