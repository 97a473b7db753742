/*
 * The configuration: where each setting's value comes from (flag, environment, file, default, in this order of
 * precedence), what form it must have, and what it comes to. Nothing here speaks to a server.
 */
#ifndef PJ_APP_CONFIG_H
#define PJ_APP_CONFIG_H

#include "base/log.h"

#include <stddef.h>

/* X(enum, key in [pgprojector], flag or NULL, environment variable, default or NULL, help) */
#define PJ_SETTINGS(X)                                                                                                 \
    X(PJ_SET_WRITE_URL, "write_database_url", NULL, "WRITE_DATABASE_URL", NULL,                                        \
      "connection string of the write database")                                                                       \
    X(PJ_SET_READ_URL, "read_database_url", NULL, "READ_DATABASE_URL", NULL, "connection string of the read database") \
    X(PJ_SET_SLOT, "slot", "slot", "PGPROJECTOR_SLOT", NULL,                                                           \
      "replication slot (default: made from the read database's id)")                                                  \
    X(PJ_SET_SCHEMA, "schema", "schema", "PGPROJECTOR_SCHEMA", "public", "schema of the modules' unqualified tables")  \
    X(PJ_SET_MODULE_DIR, "module_dir", "module-dir", "PGPROJECTOR_MODULE_DIR", NULL, "directory of the modules")       \
    X(PJ_SET_MODULES, "modules", "modules", "PGPROJECTOR_MODULES", NULL, "comma list of modules (default: all there)") \
    X(PJ_SET_JOBS, "jobs", "jobs", "PGPROJECTOR_JOBS", "2",                                                            \
      "parallel copies and index builds of the first start, 1 to 16")                                                  \
    X(PJ_SET_SLOT_WAIT, "slot_wait", "slot-wait", "PGPROJECTOR_SLOT_WAIT", "60s",                                      \
      "how long creating the slot may wait for open transactions")                                                     \
    X(PJ_SET_BATCH_BYTES, "batch_bytes", "batch-bytes", "PGPROJECTOR_BATCH_BYTES", "8MB",                              \
      "cap of a batch; some four times that bounds the memory, eight at worst")                                        \
    X(PJ_SET_GATHER, "gather", "gather", "PGPROJECTOR_GATHER", "250ms",                                                \
      "longest gathering of a batch while the stream runs hot")                                                        \
    X(PJ_SET_ON_GAP, "on_gap", "on-gap", "PGPROJECTOR_ON_GAP", "halt",                                                 \
      "what to do where the stream cannot be continued: halt, or resync by itself")                                    \
    X(PJ_SET_ON_ERROR, "on_error", "on-error", "PGPROJECTOR_ON_ERROR", "park",                                         \
      "what a projection cannot take: park it, or halt; [module NAME] on_error goes before")                           \
    X(PJ_SET_APPLY_TIMEOUT, "apply_timeout", "apply-timeout", "PGPROJECTOR_APPLY_TIMEOUT", "10s",                      \
      "longest call of a module's apply(); 0: no limit")                                                               \
    X(PJ_SET_LOG_LEVEL, "log_level", "log-level", "PGPROJECTOR_LOG_LEVEL", "info", "debug, info, warning or error")

#define PJ_SETTING_ENUM(id, key, flag, variable, preset, help) id,
enum pj_setting_id { PJ_SETTINGS(PJ_SETTING_ENUM) PJ_SETTING_COUNT };
#undef PJ_SETTING_ENUM

/* What is known of a setting before any value. Static storage. */
struct pj_setting_info {
    const char *key, *flag, *variable, *preset, *help;
};
const struct pj_setting_info *pj_setting_info(enum pj_setting_id id);

enum pj_rank { PJ_RANK_NONE, PJ_RANK_DEFAULT, PJ_RANK_FILE, PJ_RANK_ENVIRONMENT, PJ_RANK_FLAG };

struct pj_setting {
    char *value;  /* NULL: not set */
    char *origin; /* for messages: "pgprojector.ini:12", "environment PGPROJECTOR_JOBS", "--jobs" */
    enum pj_rank rank;
};

/* One line of a section [module NAME]. */
struct pj_config_entry {
    char *key, *value, *origin;
};

struct pj_config_module {
    char *name, *origin;
    int nentries;
    struct pj_config_entry *entries;
};

struct pj_config {
    char *file; /* NULL: none */
    struct pj_setting settings[PJ_SETTING_COUNT];
    struct pj_setting mirrors; /* [mirrors] tables */
    int nmodules;
    struct pj_config_module *modules;

    /* what pj_config_resolve makes of them */
    int jobs, slot_wait_ms, gather_ms;
    size_t batch_bytes;
    bool resync_on_gap, halt_on_error;
    int apply_timeout_ms; /* 0: none */
    enum pj_log_level log_level;
};

void pj_config_init(struct pj_config *config); /* the defaults */
void pj_config_free(struct pj_config *config);

/* Gives a setting a value, unless it has one of a higher rank. */
void pj_config_set(struct pj_config *config, enum pj_setting_id id, enum pj_rank rank, const char *value,
                   const char *origin);

/* Reads an INI file. PJ_ECONFIG naming file, line and, for an unknown section or key, the nearest known one. */
int pj_config_read_file(struct pj_config *config, const char *path, struct pj_error *error);

/* The same from memory; `path` is for messages. */
int pj_config_read_text(struct pj_config *config, const char *text, const char *path, struct pj_error *error);

/* Takes what the environment has. `lookup` is getenv, or a test's replacement. */
void pj_config_read_environment(struct pj_config *config, char *(*lookup)(const char *name));

/* Both: the file that a flag or else PGPROJECTOR_CONFIG names, if one does, and the environment. */
int pj_config_read(struct pj_config *config, char *(*lookup)(const char *name), struct pj_error *error);

/* Checks the forms and fills the resolved fields. PJ_ECONFIG naming the origin of what is wrong. */
int pj_config_resolve(struct pj_config *config, struct pj_error *error);

/* The value, or NULL. */
const char *pj_config_get(const struct pj_config *config, enum pj_setting_id id);

#endif
