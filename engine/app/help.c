/* The commands and what --help says of them. */
#include "app/options.h"

#include <stdio.h>

static const char run_text[] =
    "Runs the daemon: waits for both databases, creates what is missing (catalog, slot, mirrors,\n"
    "projections; the first start copies a snapshot), then streams until SIGTERM or SIGINT. A second\n"
    "signal ends it at once, which is safe. Where another daemon serves the read database, it stands by\n"
    "and takes over when that one is gone.\n"
    "\n"
    "Exit codes: 0 stopped on request; 1 failure (such as a table without primary key, or another daemon\n"
    "has taken over); 2 configuration that cannot work, named with its remedy. A database that is down is\n"
    "waited for.\n"
    "\n"
    "Example:\n"
    "  WRITE_DATABASE_URL=postgresql://projector@write/app READ_DATABASE_URL=postgresql://projector@read/app \\\n"
    "      pgprojector run\n";

static const char init_text[] =
    "Does what the first start of `run` does, without streaming: checks both databases, creates catalog\n"
    "and slot, copies the snapshot, builds the projections. Done already, it says so and changes nothing.\n"
    "The slot keeps WAL on the write database until a daemon runs.\n"
    "\n"
    "Options:\n"
    "  --wait TIME     how long to wait for databases that are down (default 0; seconds, or such as\n"
    "                  500ms, 5min)\n"
    "\n"
    "Exit codes: 0 initialised, now or before; 1 failure; 2 configuration; 3 a database is unreachable.\n"
    "\n"
    "Example:\n"
    "  pgprojector -c chat.ini init && systemctl start pgprojector\n";

static const char status_text[] =
    "Shows the daemon's state, how far the read database is behind, the slot and the WAL it retains,\n"
    "projections and mirrors. Needs no daemon: it reads the catalog on the read database and the slot on\n"
    "the write database, and says what it can when one of them is down.\n"
    "\n"
    "Options:\n"
    "  --json          one JSON object (its keys are in the README)\n"
    "  --watch         again every second, until interrupted\n"
    "\n"
    "Exit codes: 0 streaming, less than 5 s behind, every projection kept up or paused by a person; 6\n"
    "dead letters present; 4 unhealthy; 3 a database is unreachable; 2 configuration.\n"
    "\n"
    "Example:\n"
    "  pgprojector status --json | jq .replication.lagSeconds\n";

static const char resync_text[] =
    "Makes the read database equal to a new snapshot of the write database, with a new slot: the remedy\n"
    "where the stream cannot be continued (slot gone or invalidated, a failover that lost commits,\n"
    "another write server, a read database restored to an older state). The daemon must be stopped.\n"
    "Mirrors are compared with their sources and only what differs is written, all in one transaction:\n"
    "until it commits, readers have the former state. Killed, it is begun again by calling it again;\n"
    "until it is complete, `run` halts. With on_gap = resync `run` does this by itself.\n"
    "\n"
    "Options:\n"
    "  --wait TIME     how long to wait for databases that are down (default 0; seconds, or such as\n"
    "                  500ms, 5min)\n"
    "\n"
    "Exit codes: 0 done, start the daemon now; 1 failure, or a daemon is at work; 2 configuration, such\n"
    "as a mirror whose columns are not the source's; 3 a database is unreachable.\n"
    "\n"
    "Example:\n"
    "  systemctl stop pgprojector && pgprojector -c chat.ini resync && systemctl start pgprojector\n";

static const char mirror_text[] =
    "mirror refresh gives the mirrors the columns that their source tables have gained since, all of them\n"
    "or those of the TABLEs named, with the values that they have. A running daemon leaves such columns\n"
    "out; `doctor` names them. Where there are some, a resync follows in the same run: the daemon must be\n"
    "stopped, and readers have the former rows until it is complete. Columns that a source has lost are\n"
    "not taken from the mirror: that is done by hand.\n"
    "\n"
    "Options:\n"
    "  --wait TIME     how long to wait for databases that are down (default 0; seconds, or such as\n"
    "                  500ms, 5min)\n"
    "\n"
    "Exit codes: 0 done, start the daemon now, or there was nothing to do; 1 failure, or a daemon is at\n"
    "work; 2 no such mirror, configuration; 3 a database is unreachable.\n"
    "\n"
    "Example:\n"
    "  systemctl stop pgprojector && pgprojector -c chat.ini mirror refresh && systemctl start pgprojector\n";

static const char slot_text[] =
    "slot, or slot show, tells of the replication slot on the write database: whether it is read, how\n"
    "much WAL it holds back and how much more it may, and the positions it has. slot drop drops it, so\n"
    "that the write database keeps no WAL for a deployment that has come to its end; the tables of the\n"
    "read database stay as they are.\n"
    "\n"
    "Options:\n"
    "  --json          one JSON object, as in `status`\n"
    "\n"
    "Exit codes: 0 it is there, or is dropped; 4 there is none, or it is lost; 1 it is in use, or another\n"
    "failure; 2 it is not ours, configuration; 3 a database is unreachable.\n"
    "\n"
    "Example:\n"
    "  systemctl disable --now pgprojector && pgprojector -c chat.ini slot drop\n";

static const char verify_text[] =
    "Compares, at one and the same commit of the write database, every mirror with its source table and\n"
    "every projection with its definition. The daemon must be running; it holds still for some\n"
    "milliseconds, then goes on while rows are compared. Without a NAME everything is verified; a NAME is\n"
    "a projection or a mirrored table.\n"
    "\n"
    "Options:\n"
    "  --repair        mends what differs, at a second fence: mirrors from the source, projections from\n"
    "                  their definitions, by key, thousands at most at a time, and verifies again until\n"
    "                  nothing differs\n"
    "  --sample N      compares about N rows of each mirror and projection, drawn anew each time, instead\n"
    "                  of all; with --repair, what was found is mended, and each verification draws other\n"
    "                  rows\n"
    "  --keys N        differing keys shown of each table (default 20); all are counted\n"
    "  --json          one JSON object\n"
    "\n"
    "Exit codes: 0 no difference, or all mended; 5 differences, listed; 6 dead letters present; 4 no\n"
    "daemon is running, or it did not answer, or a mirror that was named is still being added; 3 a\n"
    "database is unreachable; 2 configuration; 1 failure.\n"
    "\n"
    "Example:\n"
    "  pgprojector verify messages conversation_summary\n";

static const char rebuild_text[] =
    "Makes a projection's table equal to its definition, in place and online: the two are compared in a\n"
    "snapshot, then the rows that differ are recomputed in short transactions, each holding up the stream\n"
    "for some milliseconds. Readers never find the table missing, empty or behind. Interrupted, what is\n"
    "done stays done. Works with and without a running daemon. Where the module has changed since\n"
    "(another version, another option) and the table's columns are still the same, this mends that, too,\n"
    "without a running daemon; a daemon builds the new table beside: --fresh, or `module add`.\n"
    "\n"
    "With --fresh a new table is built beside and takes the name in one transaction, whatever its\n"
    "columns: by the daemon, or here where none runs. Owner, grants, comments, settings, indexes and\n"
    "views go along with the name; what cannot is named, and nothing is changed. A reader that has the\n"
    "table open is waited for, and nobody waits behind it.\n"
    "\n"
    "Options:\n"
    "  --all           all projections, instead of a NAME\n"
    "  --fresh         a new table, built beside and swapped in\n"
    "  --keep-old      keeps what is replaced, for --rollback\n"
    "  --rollback      the kept table takes the name again, after it was made right; needs the module's\n"
    "                  version of then\n"
    "  --drop-kept     drops the kept table\n"
    "  --cancel        gives up what is under way for it, whoever does it; else forgets the request of\n"
    "                  its that has failed\n"
    "  --chunk N       rows recomputed in a transaction at most (default: what fits into some\n"
    "                  milliseconds)\n"
    "  --max-rate N    rows a second at most\n"
    "  --no-verify     without the second comparison afterwards (where nothing differed there is none)\n"
    "\n"
    "Exit codes: 0 done; 5 rows differ still; 6 done, but some keys are dead letters; 1 failure or\n"
    "interrupted; 2 configuration; 3 a database is unreachable; 4 the first start is not complete, or the\n"
    "daemon that was asked has ended and none has come back.\n"
    "\n"
    "Example:\n"
    "  pgprojector rebuild --all --max-rate 5000\n";

static const char pause_text[] =
    "Pauses a projection, also across restarts: the daemon goes on with all others, holds back no WAL,\n"
    "and only notes which keys of this one change. Its table stays as it is. Paused already, it says so.\n"
    "\n"
    "One that the daemon has paused (`status` shows why, and ends with 4) is taken over: from then on it\n"
    "is as if you had paused it. `status` does not count it as unhealthy any more, and the daemon does\n"
    "not resume it by itself, even where it otherwise would: when its module is back, or when it has only\n"
    "to catch up with a table that was replaced.\n"
    "\n"
    "Exit codes: 0 paused, now or before; 1 failure; 2 no such projection; 3 a database is unreachable.\n"
    "\n"
    "Example:\n"
    "  pgprojector pause conversation_summary\n";

static const char resume_text[] =
    "Takes a paused projection up again: the keys noted meanwhile are recomputed beside the stream until\n"
    "few are left, the rest together with the change of state in one transaction. Interrupted, the\n"
    "projection stays paused and nothing is lost. Live already, it says so.\n"
    "\n"
    "Exit codes: 0 live; 6 live, but keys could not be written and are dead letters now; 1 failure or\n"
    "interrupted; 2 no such projection; 3 a database is unreachable.\n"
    "\n"
    "Example:\n"
    "  pgprojector resume conversation_summary\n";

static const char deadletters_text[] =
    "Dead letters are keys that a projection could not take (a constraint on its table, a value out of\n"
    "range). Their rows stay as they last were, all others go on. They are retried by themselves, 10\n"
    "times, after 30 s and then at growing intervals up to an hour.\n"
    "\n"
    "  list            one line for each, the oldest first (1000 at most)\n"
    "  show            all that is known of them\n"
    "  retry           recomputes the keys now; those that succeed are right again, and no dead letters\n"
    "                  any more\n"
    "  discard         forgets them without mending: their rows may stay wrong, until `rebuild` mends\n"
    "                  them, and take part in the stream again\n"
    "\n"
    "Options:\n"
    "  --key KEY       of this routing key only\n"
    "  --sqlstate S    with this error only\n"
    "  --all           retry, discard: really all of them\n"
    "  --json          one JSON object\n"
    "\n"
    "Exit codes: 0 there are none, or none is left of those retried; 6 there are; 1 failure; 2 usage or\n"
    "configuration; 3 a database is unreachable.\n"
    "\n"
    "Example:\n"
    "  pgprojector deadletters retry conversation_summary --sqlstate 23514\n";

static const char wait_text[] =
    "Waits until the read database shows what the write database has committed by now, or by a given LSN.\n"
    "The same from SQL, on the read database or a standby of it: SELECT pgprojector.wait_for(lsn, '5 s').\n"
    "\n"
    "Options:\n"
    "  --lsn LSN       the position to wait for (default: the write database's current insert position)\n"
    "  --timeout TIME  how long (default 30; seconds, or such as 500ms, 5min)\n"
    "  --json          one JSON object\n"
    "\n"
    "Exit codes: 0 it does; 4 it did not in time; 3 a database is unreachable; 2 configuration.\n"
    "\n"
    "Example:\n"
    "  pgprojector wait --timeout 10 && run-the-tests\n";

static const char doctor_text[] =
    "Checks everything that a deployment needs, on both databases, in the module files and in the\n"
    "configuration, and names the remedy of what is wrong. Changes nothing (to try the plugin it creates\n"
    "a temporary slot that vanishes with its connection).\n"
    "\n"
    "Options:\n"
    "  --json          one JSON object\n"
    "\n"
    "Exit codes: 0 no check failed (there may be warnings); 1 one did.\n"
    "\n"
    "Example:\n"
    "  pgprojector -c chat.ini doctor\n";

static const char module_text[] =
    "For authors of projection modules, and for whoever deploys them:\n"
    "\n"
    "  new NAME [--dir DIR]\n"
    "      makes the directory NAME (in DIR, which must exist) with a module that builds, a fixture and a\n"
    "      Makefile.\n"
    "  check FILE ... [--json]\n"
    "      loads each module and names everything that is wrong with it: the file's permissions, ABI,\n"
    "      lists; with the databases of the configuration also tables and columns, the definition, merge\n"
    "      statements and indexes. These run on empty temporary tables, in a transaction that is rolled\n"
    "      back. What could not be looked at is said.\n"
    "  test DIR|FILE.so [FIXTURE ...] [--record]\n"
    "      feeds the changes of fixtures (all *.json of the directory) to apply(), without a server, and\n"
    "      compares the combined deltas and the dirty keys with the expected ones. --record prints the\n"
    "      fixtures with what came out.\n"
    "  record NAME|FILE.so [--changes N] [--seconds S]\n"
    "      prints a fixture of what now happens on the write database's tables that the module reads,\n"
    "      until N rows have changed (default 10) or S seconds are over (default 60). Old rows are exact.\n"
    "      Uses a temporary slot. The fixture holds real values of the columns that the module declares.\n"
    "\n"
    "Registering, with a running daemon or without one. The module's file must be in the module directory\n"
    "(a daemon does the same when it is told to look: SIGHUP, or when it is started):\n"
    "\n"
    "  add NAME|FILE.so ... [--keep-old] [--no-wait] [--no-verify]\n"
    "      checks the module, builds its table beside while all goes on, and puts it live. A new version,\n"
    "      or another option, is built beside the former one, which serves until the swap. What failed\n"
    "      has changed nothing. --keep-old keeps the former table, to go back to with `rebuild NAME\n"
    "      --rollback`; else it is dropped. --no-verify swaps it in without comparing it with the\n"
    "      definition before. --no-wait, here and for remove: does not wait for the daemon to have done\n"
    "      it; `module list` and `status` tell.\n"
    "  remove NAME [--drop-table] [--no-wait]\n"
    "      the projection is not maintained any more, also not after a restart, until it is added again.\n"
    "      Its table stays as it is, or is dropped, and with it the mirrors that nobody else asks for.\n"
    "  list [--json]\n"
    "      what is in the directory (VERSION: the file's) and what is registered (RECORDED: the version\n"
    "      by which the table was built). Where they differ, `add` is yet to be called. A removed one is\n"
    "      retired.\n"
    "\n"
    "Exit codes: 0 no fault, all as expected, done; 1 faults found, cases failed, or given up; 2 usage,\n"
    "configuration, a fixture or (but for check) a module that is not there, one that cannot be\n"
    "registered; 3 a database is unreachable; 4 the first start is not complete.\n"
    "\n"
    "Example:\n"
    "  pgprojector module new top_senders && make -C top_senders test\n";

static const char version_text[] =
    "Shows the versions of the program, of the module ABI and of the libraries it runs with.\n"
    "\n"
    "Options:\n"
    "  --json          one JSON object\n"
    "\n"
    "Exit codes: 0.\n";

const struct pj_verb pj_verbs[] = {
    {"run", "run the daemon", "", run_text, pj_run, true, 0},
    {"init", "create slot, mirrors and projections, without streaming", "[--wait TIME]", init_text, pj_init, true, 0},
    {"status", "state, lag, slot, projections", "[--json] [--watch]", status_text, pj_status, true, 0},
    {"resync", "start anew from a snapshot, in place", "[--wait TIME]", resync_text, pj_resync, true, 0},
    {"mirror", "take up columns that sources have gained", "refresh [TABLE ...] [--wait TIME]", mirror_text,
     pj_mirror_command, true, -1},
    {"slot", "the replication slot", "[show|drop] [--json]", slot_text, pj_slot_command, true, 1},
    {"verify", "compare both databases at one commit", "[NAME ...] [--sample N] [--repair] [--keys N] [--json]",
     verify_text, pj_verify, true, -1},
    {"rebuild", "make projections equal to their definitions, online", "NAME ...|--all [options]", rebuild_text,
     pj_rebuild_command, true, -1},
    {"pause", "hold a projection still", "NAME", pause_text, pj_pause_command, true, 1},
    {"resume", "take it up again", "NAME", resume_text, pj_resume_command, true, 1},
    {"deadletters", "keys that could not be written", "list|show|retry|discard [NAME] [options]", deadletters_text,
     pj_deadletters, true, 2},
    {"wait", "wait until the read database has caught up", "[--lsn LSN] [--timeout TIME] [--json]", wait_text, pj_wait,
     true, 0},
    {"doctor", "check servers, roles, tables, modules", "[--json]", doctor_text, pj_doctor, false, 0},
    {"module", "make, check, test, add and remove modules", "new|check|test|record|add|remove|list ...", module_text,
     pj_module_verb, false, -1},
    {"version", "show versions", "[--json]", version_text, pj_version, false, 0},
    {0},
};

static void print_settings(void)
{
    puts("Settings, each as flag, environment variable or key of the file's section [pgprojector], in this order of\n"
         "precedence (connection strings have no flag, for command lines are public):");
    for (int id = 0; id < PJ_SETTING_COUNT; id++) {
        const struct pj_setting_info *info = pj_setting_info((enum pj_setting_id)id);
        printf("  %s%-15s %-25s %s\n", info->flag ? "--" : "  ", info->flag ? info->flag : "", info->variable,
               info->key);
        printf("                    %s%s%s%s\n", info->help, info->preset ? " (default " : "",
               info->preset ? info->preset : "", info->preset ? ")" : "");
    }
}

static void print_program(void)
{
    puts("pgprojector keeps read models on one PostgreSQL right, by following another one.\n"
         "\n"
         "Usage: pgprojector [-c FILE] COMMAND [options]\n"
         "\n"
         "Commands:");
    for (const struct pj_verb *verb = pj_verbs; verb->name; verb++)
        printf("  %-11s %s\n", verb->name, verb->summary);
    puts("\n"
         "Options of all commands:\n"
         "  -c, --config FILE  configuration file (or environment PGPROJECTOR_CONFIG)\n"
         "  -h, --help         this text; behind a command, that command's\n"
         "  -V, --version      versions\n");
    print_settings();
    puts("\n"
         "Exit codes: 0 done, 1 failure, 2 usage or configuration, 3 a database is unreachable, 4 unhealthy or "
         "lagging,\n"
         "5 differences found, 6 dead letters present.");
}

void pj_options_help(const struct pj_verb *verb)
{
    if (!verb) {
        print_program();
        return;
    }
    printf("Usage: pgprojector [-c FILE] %s%s%s\n\n%s", verb->name, *verb->usage ? " " : "", verb->usage, verb->text);
    puts("\nOptions of all commands, and the settings: pgprojector --help");
}
