"""The write side of the tests: the chat schema and a set of awkward tables, in several flavours.

The workload and the oracle always speak of `messages`, `conversations`, `users`, `user_conversations` and their columns.
In the `renamed` flavour the tables are called otherwise, and those names are views on them (simple enough for PostgreSQL
to write through), in a schema that comes first in the search path.
"""
import dataclasses

from .daemon import PROGRAM

CHAT = ("users", "conversations", "messages", "user_conversations")

RENAMED_TABLES = {
    "users": '"Odd Schema"."Benutzer"',
    "conversations": '"Odd Schema"."Gespräche"',
    "messages": '"Odd Schema"."the ""Messages"""',
    "user_conversations": '"Odd Schema"."members, of"',
}
RENAMED_COLUMNS = {
    "conversations.id": '"Id"', "conversations.title": '"Titel ""ü"""', "conversations.type": '"select"',
    "messages.conversation_id": '"Gespräch"', "messages.created_at": '"created At"', "messages.deleted_at": '"DELETED"',
    "user_conversations.last_read_at": '"gelesen; bis"', "user_conversations.user_id": '"User"',
}

COLUMNS = {
    "users": {"id": "uuid NOT NULL", "username": "text", "display_name": "text"},
    "conversations": {"id": "uuid NOT NULL", "tenant_id": "uuid", "title": "text", "type": "text",
                      "created_at": "timestamptz", "updated_at": "timestamptz"},
    "messages": {"id": "uuid NOT NULL", "conversation_id": "uuid", "sender_id": "uuid", "sequence_number": "bigint",
                 "client_message_id": "text", "content": "text", "created_at": "timestamptz",
                 "deleted_at": "timestamptz"},
    "user_conversations": {"user_id": "uuid NOT NULL", "conversation_id": "uuid NOT NULL", "joined_at": "timestamptz",
                           "last_read_at": "timestamptz"},
}
KEYS = {"users": ("id",), "conversations": ("id",), "messages": ("id",),
        "user_conversations": ("user_id", "conversation_id")}

# Each with its quoted name. What makes it awkward stands in the DDL.
ODD = ('"Odd Schema"."Größe ""Tabelle"""', "public.swaps", 'public."by index"', "public.full_rows", "public.only_key",
       'public."Parts"')

ODD_DDL = r'''
CREATE SCHEMA "Odd Schema";
CREATE TYPE "Odd Schema"."Stimmung" AS ENUM ('gut', 'so "lala"', 'it''s bad', 'schön \ ja', 'a,b');
CREATE DOMAIN public.email AS text CHECK (VALUE ~ '@');
CREATE DOMAIN "Odd Schema"."Positive" AS numeric CHECK (VALUE > 0);
CREATE TABLE "Odd Schema"."Größe ""Tabelle""" (
    "Mixed Case" text, gone integer, "quote""d" varchar(40), fixed char(5), "Id" bigint PRIMARY KEY, num numeric,
    scaled numeric(40,20), dbl double precision, flt real, small smallint, flag boolean, at timestamptz,
    local timestamp(3), day date, clock time, zoned timetz, span interval, mood "Odd Schema"."Stimmung", mail email,
    pos "Odd Schema"."Positive", words text[], numbers numeric[], moods "Odd Schema"."Stimmung"[], doc jsonb, raw json,
    bytes bytea, net inet, bits varbit(20), range int8range, big_text text, other text,
    twice numeric GENERATED ALWAYS AS (num * 2) STORED);
ALTER TABLE "Odd Schema"."Größe ""Tabelle""" DROP COLUMN gone;
ALTER TABLE "Odd Schema"."Größe ""Tabelle""" ALTER big_text SET STORAGE EXTERNAL;

CREATE TABLE public.swaps (gone text, label text, id integer PRIMARY KEY);
ALTER TABLE public.swaps DROP COLUMN gone;

-- Identified by an index that is not the primary key; both change.
CREATE TABLE public."by index" (id integer PRIMARY KEY, code text NOT NULL, part integer NOT NULL, body text, n bigint);
CREATE UNIQUE INDEX "its identity" ON public."by index" (part, code);
ALTER TABLE public."by index" REPLICA IDENTITY USING INDEX "its identity";
ALTER TABLE public."by index" ALTER body SET STORAGE EXTERNAL;

CREATE TABLE public.full_rows (body text, a text COLLATE "C", b integer, extra numeric, PRIMARY KEY (b, a));
ALTER TABLE public.full_rows REPLICA IDENTITY FULL;
ALTER TABLE public.full_rows ALTER body SET STORAGE EXTERNAL;

CREATE TABLE public.only_key (b text, a integer, PRIMARY KEY (a, b));

-- Rows move between partitions; partitions come while it runs, one of them is partitioned again, one lives elsewhere.
CREATE TABLE public."Parts" (v text, region integer, id integer, w bigint, PRIMARY KEY (id, region))
    PARTITION BY LIST (region);
CREATE TABLE public."Parts 0" PARTITION OF public."Parts" FOR VALUES IN (0);
CREATE TABLE "Odd Schema"."Parts 1" (w bigint, id integer NOT NULL, v text, region integer NOT NULL);
ALTER TABLE public."Parts" ATTACH PARTITION "Odd Schema"."Parts 1" FOR VALUES IN (1);
CREATE TABLE public."Parts 2" PARTITION OF public."Parts" FOR VALUES IN (2) PARTITION BY HASH (id);
CREATE TABLE public."Parts 2a" PARTITION OF public."Parts 2" FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE public."Parts 2b" PARTITION OF public."Parts 2" FOR VALUES WITH (MODULUS 2, REMAINDER 1);

-- Of no concern to the mirrors: one without a key, one named like a mirrored table, one that ticks.
CREATE TABLE public.noise (n integer, body text);
CREATE SCHEMA other;
CREATE TABLE other.messages (id uuid PRIMARY KEY, conversation_id uuid, content text);
CREATE TABLE public.tick (n bigint);
'''


# The modules that are deployed by default, and those that are built beside them; not in the order of their chains.
MODULES = ("chat_mirrors", "conversation_summary", "user_conversation_membership")
EXAMPLES = ("user_unread", "messages_per_day", "conversation_days")


def example(name):
    return PROGRAM.resolve().parent / "examples" / f"{name}.so"


def unquoted(identifier):
    return identifier[1:-1].replace('""', '"')


@dataclasses.dataclass(frozen=True)
class Flavour:
    """How a write database and its daemon differ from the plainest ones."""
    identity: str = "default"      # of the chat tables: default, full, index
    partitioned: bool = False      # messages: by range of id, in three partitions and those that come later
    generated: bool = False        # messages carries generated columns
    renamed: bool = False          # tables and columns by other names
    odd: bool = True               # the awkward tables are there and mirrored
    batch_bytes: int = 0           # the cap of a batch; 0: the program's default
    chained: bool = False          # the examples are deployed, too, which read other projections' tables

    def table(self, name):
        """The real name of a chat table, quoted and qualified."""
        return RENAMED_TABLES[name] if self.renamed else f"public.{name}"

    def column(self, table, name):
        return RENAMED_COLUMNS.get(f"{table}.{name}", name) if self.renamed else name

    @property
    def search_path(self):
        return "chat_names, public" if self.renamed else "public"

    @property
    def mirrored(self):
        """The real names of all tables that are mirrored."""
        return [self.table(name) for name in CHAT] + (list(ODD) if self.odd else [])

    def ddl(self):
        parts = [ODD_DDL if self.odd or self.renamed else "CREATE TABLE public.tick (n bigint);"]
        parts += [self.table_ddl(name) for name in CHAT]
        if self.renamed:
            parts.append("CREATE SCHEMA chat_names;")
            parts += [self.view_ddl(name) for name in CHAT]
        return "\n".join(parts)

    def table_ddl(self, name):
        real = self.table(name)
        partitioned = self.partitioned and name == "messages"
        columns = [f"{self.column(name, column)} {kind}" for column, kind in COLUMNS[name].items()]
        if self.identity == "index" and not partitioned:
            columns.append(f"row_no bigint NOT NULL DEFAULT nextval('row_no_{name}')")
        if self.generated and name == "messages":
            created = self.column(name, "created_at")
            columns += ["content_length integer GENERATED ALWAYS AS (length(content)) STORED",
                        f"is_old boolean GENERATED ALWAYS AS ({created} < '2020-01-01 00:00+00') STORED"]
        key = ", ".join(self.column(name, column) for column in KEYS[name])
        sql = f"CREATE SEQUENCE row_no_{name};\nCREATE TABLE {real} ({', '.join(columns)}, PRIMARY KEY ({key}))"
        if partitioned:
            sql += " PARTITION BY RANGE (id);\n" + "".join(self.partition_ddl(n) for n in range(3))
            sql += self.partition_identity(real)
        elif self.identity == "full":
            sql += f";\nALTER TABLE {real} REPLICA IDENTITY FULL;"
        elif self.identity == "index":
            sql += (f";\nCREATE UNIQUE INDEX row_no_of_{name} ON {real} (row_no);"
                    f"\nALTER TABLE {real} REPLICA IDENTITY USING INDEX row_no_of_{name};")
        if name == "messages":  # for the oracle, which asks by conversation
            sql += f";\nCREATE INDEX ON {real} ({self.column(name, 'conversation_id')})"
        return sql + ";"

    def partition_identity(self, table):
        return f"\nALTER TABLE {table} REPLICA IDENTITY FULL;" if self.identity == "full" else ""

    def partition_ddl(self, number):
        """Partition `number` of messages: the ids whose first hexadecimal digit is that (0 to 15)."""
        below = f"'{number + 1:x}0000000-0000-0000-0000-000000000000'" if number < 15 else "MAXVALUE"
        leaf = f'public."messages {number:x}"'
        return (f"CREATE TABLE {leaf} PARTITION OF {self.table('messages')}"
                f" FOR VALUES FROM ('{number:x}0000000-0000-0000-0000-000000000000') TO ({below});"
                + self.partition_identity(leaf) + "\n")

    def view_ddl(self, name):
        columns = ", ".join(f"{self.column(name, column)} AS {column}" for column in COLUMNS[name])
        return f"CREATE VIEW chat_names.{name} AS SELECT {columns} FROM {self.table(name)};"

    def config(self):
        """The daemon's configuration file for this flavour, or "" where it needs none."""
        main = [f"batch_bytes = {self.batch_bytes}"] if self.batch_bytes else []
        if self.chained:
            main.append("modules = " + ", ".join([*MODULES, *(str(example(name)) for name in EXAMPLES)]))
        lines = ["[pgprojector]", *main] if main else []
        if self.odd:
            lines += ["[mirrors]", "tables = " + ", ".join(ODD)]
        if self.renamed:
            lines += self.module("chat_mirrors", *CHAT)
            lines += self.module("conversation_summary", "conversations", "messages")
            lines += self.module("user_conversation_membership", "user_conversations", "conversations", "messages")
            if self.chained:
                lines += self.module("user_unread", "user_conversations")
                lines += self.module("conversation_days", "conversations", "messages")
        return "".join(line + "\n" for line in lines)

    def module(self, name, *tables):
        lines = [f"[module {name}]"]
        for table in tables:
            lines.append(f"table.{table} = {self.table(table)}")
            lines += [f"column.{declared} = {unquoted(actual)}" for declared, actual in RENAMED_COLUMNS.items()
                      if declared.startswith(table + ".")]
        return lines
