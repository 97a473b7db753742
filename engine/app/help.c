/* The commands and what --help says of them. */
#include "app/options.h"

#include <stdio.h>

static const char run_text[] =
    "Runs the daemon: waits for both databases, creates what is missing (catalog, slot, mirrors, projections; the "
    "first\n"
    "start copies a snapshot), then streams until SIGTERM or SIGINT. A second signal ends it at once, which is safe.\n"
    "Where another daemon serves the read database, it stands by and takes over when that one is gone.\n"
    "\n"
    "Exit codes: 0 stopped on request; 1 failure (such as a table without primary key, or another daemon has taken\n"
    "over); 2 configuration that cannot work, named with its remedy. A database that is down is waited for.\n"
    "\n"
    "Example:\n"
    "  WRITE_DATABASE_URL=postgresql://projector@write/app READ_DATABASE_URL=postgresql://projector@read/app \\\n"
    "      pgprojector run\n";

static const char init_text[] =
    "Does what the first start of `run` does, without streaming: checks both databases, creates catalog and slot, "
    "copies\n"
    "the snapshot, builds the projections. Done already, it says so and changes nothing. The slot keeps WAL on the "
    "write\n"
    "database until a daemon runs.\n"
    "\n"
    "Options:\n"
    "  --wait TIME     how long to wait for databases that are down (default 0; seconds, or such as 500ms, 5min)\n"
    "\n"
    "Exit codes: 0 initialised, now or before; 1 failure; 2 configuration; 3 a database is unreachable.\n"
    "\n"
    "Example:\n"
    "  pgprojector -c chat.ini init && systemctl start pgprojector\n";

static const char status_text[] =
    "Shows the daemon's state, how far the read database is behind, the slot and the WAL it retains, projections and\n"
    "mirrors. Needs no daemon: it reads the catalog on the read database and the slot on the write database, and says\n"
    "what it can when one of them is down.\n"
    "\n"
    "Options:\n"
    "  --json          one JSON object (its keys are in the README)\n"
    "  --watch         again every second, until interrupted\n"
    "\n"
    "Exit codes: 0 streaming, less than 5 s behind, every projection kept up or paused by a person; 6 dead letters "
    "present;\n"
    "4 unhealthy; 3 a database is unreachable; 2 configuration.\n"
    "\n"
    "Example:\n"
    "  pgprojector status --json | jq .replication.lagSeconds\n";

static const char resync_text[] =
    "Makes the read database equal to a new snapshot of the write database, with a new slot: the remedy where the "
    "stream\n"
    "cannot be continued (slot gone or invalidated, a failover that lost commits, another write server, a read "
    "database\n"
    "restored to an older state). The daemon must be stopped. Mirrors are compared with their sources and only what\n"
    "differs is written, all in one transaction: until it commits, readers have the former state. Killed, it is begun\n"
    "again by calling it again; until it is complete, `run` halts. With on_gap = resync `run` does this by itself.\n"
    "\n"
    "Options:\n"
    "  --wait TIME     how long to wait for databases that are down (default 0; seconds, or such as 500ms, 5min)\n"
    "\n"
    "Exit codes: 0 done, start the daemon now; 1 failure, or a daemon is at work; 2 configuration, such as a mirror "
    "whose\n"
    "columns are not the source's; 3 a database is unreachable.\n"
    "\n"
    "Example:\n"
    "  systemctl stop pgprojector && pgprojector -c chat.ini resync && systemctl start pgprojector\n";

static const char mirror_text[] =
    "mirror refresh gives the mirrors the columns that their source tables have gained since, all of them or those of "
    "the\n"
    "TABLEs named, with the values that they have. A running daemon leaves such columns out; `doctor` names them. "
    "Where "
    "there\n"
    "are some, a resync follows in the same run: the daemon must be stopped, and readers have the former rows until it "
    "is\n"
    "complete. Columns that a source has lost are not taken from the mirror: that is done by hand.\n"
    "\n"
    "Options:\n"
    "  --wait TIME     how long to wait for databases that are down (default 0; seconds, or such as 500ms, 5min)\n"
    "\n"
    "Exit codes: 0 done, start the daemon now, or there was nothing to do; 1 failure, or a daemon is at work; 2 no "
    "such\n"
    "mirror, configuration; 3 a database is unreachable.\n"
    "\n"
    "Example:\n"
    "  systemctl stop pgprojector && pgprojector -c chat.ini mirror refresh && systemctl start pgprojector\n";

static const char slot_text[] =
    "slot, or slot show, tells of the replication slot on the write database: whether it is read, how much WAL it "
    "holds\n"
    "back and how much more it may, and the positions it has. slot drop drops it, so that the write database keeps no "
    "WAL\n"
    "for a deployment that has come to its end; the tables of the read database stay as they are.\n"
    "\n"
    "Options:\n"
    "  --json          one JSON object, as in `status`\n"
    "\n"
    "Exit codes: 0 it is there, or is dropped; 4 there is none, or it is lost; 1 it is in use, or another failure; 2 "
    "it is\n"
    "not ours, configuration; 3 a database is unreachable.\n"
    "\n"
    "Example:\n"
    "  systemctl disable --now pgprojector && pgprojector -c chat.ini slot drop\n";

static const char verify_text[] =
    "Compares, at one and the same commit of the write database, every mirror with its source table and every "
    "projection\n"
    "with its definition. The daemon must be running; it holds still for some milliseconds, then goes on while rows "
    "are\n"
    "compared. Without a NAME everything is verified; a NAME is a projection or a mirrored table.\n"
    "\n"
    "Options:\n"
    "  --repair        mends what differs, at a second fence: mirrors from the source, projections from their\n"
    "                  definitions, by key, thousands at most at a time, and verifies again until nothing differs\n"
    "  --sample N      compares about N rows of each mirror and projection, drawn anew each time, instead of all;\n"
    "                  with --repair, what was found is mended, and each verification draws other rows\n"
    "  --keys N        differing keys shown of each table (default 20); all are counted\n"
    "  --json          one JSON object\n"
    "\n"
    "Exit codes: 0 no difference, or all mended; 5 differences, listed; 6 dead letters present; 4 no daemon is "
    "running, or it did not answer,\n"
    "or a mirror that was named is still being added; 3 a database is unreachable; 2 configuration; 1 failure.\n"
    "\n"
    "Example:\n"
    "  pgprojector verify messages conversation_summary\n";

static const char rebuild_text[] =
    "Makes a projection's table equal to its definition, in place and online: the two are compared in a snapshot, "
    "then\n"
    "the rows that differ are recomputed in short transactions, each holding up the stream for some milliseconds. "
    "Readers\n"
    "never find the table missing, empty or behind. Interrupted, what is done stays done. Works with and without a "
    "running\n"
    "daemon. Where the module has changed since (another version, another option) and the table's columns are still "
    "the\n"
    "same, this mends that, too, without a running daemon; a daemon builds the new table beside: --fresh, or `module "
    "add`.\n"
    "\n"
    "With --fresh a new table is built beside and takes the name in one transaction, whatever its columns: by the "
    "daemon, or "
    "here\n"
    "where none runs. Owner, grants, comments, settings, indexes and views go along with the name; what cannot is "
    "named, and\n"
    "nothing is changed. A reader that has the table open is waited for, and nobody waits behind it.\n"
    "\n"
    "Options:\n"
    "  --all           all projections, instead of a NAME\n"
    "  --fresh         a new table, built beside and swapped in\n"
    "  --keep-old      keeps what is replaced, for --rollback\n"
    "  --rollback      the kept table takes the name again, after it was made right; needs the module's version of "
    "then\n"
    "  --drop-kept     drops the kept table\n"
    "  --cancel        gives up what is under way for it, whoever does it; else forgets the request of its that has "
    "failed\n"
    "  --chunk N       rows recomputed in a transaction at most (default: what fits into some milliseconds)\n"
    "  --max-rate N    rows a second at most\n"
    "  --no-verify     without the second comparison afterwards (where nothing differed there is none)\n"
    "\n"
    "Exit codes: 0 done; 5 rows differ still; 6 done, but some keys are dead letters; 1 failure or interrupted;\n"
    "2 configuration; 3 a database is unreachable; 4 the first start is not complete, or the daemon that was asked has "
    "ended\n"
    "and none has come back.\n"
    "\n"
    "Example:\n"
    "  pgprojector rebuild --all --max-rate 5000\n";

static const char pause_text[] =
    "Pauses a projection, also across restarts: the daemon goes on with all others, holds back no WAL, and only notes "
    "which\n"
    "keys of this one change. Its table stays as it is. Paused already, it says so.\n"
    "\n"
    "One that the daemon has paused (`status` shows why, and ends with 4) is taken over: from then on it is as if you "
    "had\n"
    "paused it. `status` does not count it as unhealthy any more, and the daemon does not resume it by itself, even "
    "where "
    "it\n"
    "otherwise would: when its module is back, or when it has only to catch up with a table that was replaced.\n"
    "\n"
    "Exit codes: 0 paused, now or before; 1 failure; 2 no such projection; 3 a database is unreachable.\n"
    "\n"
    "Example:\n"
    "  pgprojector pause conversation_summary\n";

static const char resume_text[] =
    "Takes a paused projection up again: the keys noted meanwhile are recomputed beside the stream until few are left, "
    "the\n"
    "rest together with the change of state in one transaction. Interrupted, the projection stays paused and nothing "
    "is\n"
    "lost. Live already, it says so.\n"
    "\n"
    "Exit codes: 0 live; 6 live, but keys could not be written and are dead letters now; 1 failure or interrupted;\n"
    "2 no such projection; 3 a database is unreachable.\n"
    "\n"
    "Example:\n"
    "  pgprojector resume conversation_summary\n";

static const char deadletters_text[] =
    "Dead letters are keys that a projection could not take (a constraint on its table, a value out of range). Their "
    "rows stay as\n"
    "they last were, all others go on. They are retried by themselves, 10 times, after 30 s and then at growing "
    "intervals\n"
    "up to an hour.\n"
    "\n"
    "  list            one line for each, the oldest first (1000 at most)\n"
    "  show            all that is known of them\n"
    "  retry           recomputes the keys now; those that succeed are right again, and no dead letters any more\n"
    "  discard         forgets them without mending: their rows may stay wrong, until `rebuild` mends them, and take "
    "part in\n"
    "                  the stream again\n"
    "\n"
    "Options:\n"
    "  --key KEY       of this routing key only\n"
    "  --sqlstate S    with this error only\n"
    "  --all           retry, discard: really all of them\n"
    "  --json          one JSON object\n"
    "\n"
    "Exit codes: 0 there are none, or none is left of those retried; 6 there are; 1 failure; 2 usage or "
    "configuration;\n"
    "3 a database is unreachable.\n"
    "\n"
    "Example:\n"
    "  pgprojector deadletters retry conversation_summary --sqlstate 23514\n";

static const char wait_text[] =
    "Waits until the read database shows what the write database has committed by now, or by a given LSN. The same "
    "from\n"
    "SQL, on the read database or a standby of it: SELECT pgprojector.wait_for(lsn, '5 s').\n"
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
    "Checks everything that a deployment needs, on both databases, in the module files and in the configuration, and\n"
    "names the remedy of what is wrong. Changes nothing (to try the plugin it creates a temporary slot that vanishes\n"
    "with its connection).\n"
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
    "      makes the directory NAME (in DIR, which must exist) with a module that builds, a fixture and a Makefile.\n"
    "  check FILE ... [--json]\n"
    "      loads each module and names everything that is wrong with it: the file's permissions, ABI, lists; with the\n"
    "      databases of the configuration also tables and columns, the definition, merge statements and indexes. "
    "These\n"
    "      run on empty temporary tables, in a transaction that is rolled back. What could not be looked at is said.\n"
    "  test DIR|FILE.so [FIXTURE ...] [--record]\n"
    "      feeds the changes of fixtures (all *.json of the directory) to apply(), without a server, and compares the\n"
    "      combined deltas and the dirty keys with the expected ones. --record prints the fixtures with what came "
    "out.\n"
    "  record NAME|FILE.so [--changes N] [--seconds S]\n"
    "      prints a fixture of what now happens on the write database's tables that the module reads, until N rows\n"
    "      have changed (default 10) or S seconds are over (default 60). Old rows are exact. Uses a temporary slot. "
    "The\n"
    "      fixture holds real values of the columns that the module declares.\n"
    "\n"
    "Registering, with a running daemon or without one. The module's file must be in the module directory (a daemon\n"
    "does the same when it is told to look: SIGHUP, or when it is started):\n"
    "\n"
    "  add NAME|FILE.so ... [--keep-old] [--no-wait] [--no-verify]\n"
    "      checks the module, builds its table beside while all goes on, and puts it live. A new version, or another\n"
    "      option, is built beside the former one, which serves until the swap. What failed has changed nothing.\n"
    "      --keep-old keeps the former table, to go back to with `rebuild NAME --rollback`; else it is dropped.\n"
    "  remove NAME [--drop-table] [--no-wait]\n"
    "      the projection is not maintained any more, also not after a restart, until it is added again. Its table\n"
    "      stays as it is, or is dropped, and with it the mirrors that nobody else asks for.\n"
    "  list [--json]\n"
    "      what is in the directory (VERSION: the file's) and what is registered (RECORDED: the version by which the\n"
    "      table was built). Where they differ, `add` is yet to be called. A removed one is retired.\n"
    "\n"
    "Exit codes: 0 no fault, all as expected, done; 1 faults found, cases failed, or given up; 2 usage, "
    "configuration,\n"
    "a fixture or (but for check) a module that is not there, one that cannot be registered; 3 a database is\n"
    "unreachable; 4 the first start is not complete.\n"
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
