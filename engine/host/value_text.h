/* From PostgreSQL's binary send format to its text output (DateStyle ISO, TimeZone UTC): the way back of
 * wire/pgtext.h; and whether bytes are a value at all. */
#ifndef PJ_HOST_VALUE_TEXT_H
#define PJ_HOST_VALUE_TEXT_H

#include "base/buf.h"
#include "pgprojector.h"

#include <stdbool.h>

/* Appends the value's text; false, and nothing, for NULL and where the bytes are no value of the type. Bytes of
 * PJ_ANY and PJ_TEXT that are not UTF-8 are shown as \x and hex digits, though no text of that form comes back to
 * the same bytes. */
bool pj_value_text(enum pj_type type, struct pj_value value, struct pj_buf *text);

/* Whether a server with an UTF8 database takes the bytes as a value of the type; NULL it takes for any. Of PJ_ANY: as
 * text, which need not be a value of the type behind it. */
bool pj_value_fits(enum pj_type type, struct pj_value value);

/* The bytes that a value of the type has; 0: any number. */
static inline int32_t pj_type_width(enum pj_type type)
{
    static const int8_t widths[] = {[PJ_BOOL] = 1, [PJ_INT2] = 2,      [PJ_INT4] = 4,        [PJ_INT8] = 8,
                                    [PJ_DATE] = 4, [PJ_TIMESTAMP] = 8, [PJ_TIMESTAMPTZ] = 8, [PJ_UUID] = 16};
    return widths[type];
}

#endif
