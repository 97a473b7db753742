/* The command line. */
#ifndef PJ_APP_OPTIONS_H
#define PJ_APP_OPTIONS_H

#include "app/app.h"

/*
 * Reads the command line into the application: flags, the verb (NULL where only help or the version is wanted, which
 * options.help says), its operands. Options may stand before or behind the verb. PJ_ECONFIG with a hint.
 */
int pj_options_read(struct pj_app *app, int argc, char **argv, const struct pj_verb **verb, struct pj_error *error);

/* Prints the help of a verb, or of the whole program for NULL, to stdout. */
void pj_options_help(const struct pj_verb *verb);

#endif
