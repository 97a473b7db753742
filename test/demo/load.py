"""The load of the demo: writers that do to a chat database what its users, operators and migrations do.

Each writer is a thread with a connection of its own; it draws an action by weight and runs it as one transaction. Races
between writers (a lock timeout, a deadlock, a duplicate) are part of life: the transaction is rolled back and counted.
"""
import collections
import random
import threading
import time
import uuid

import psycopg2

USERS, CONVERSATIONS, HISTORY = 400, 60, 20_000
TOPICS = ("kitchen", "garden", "release", "support", "books", "music", "travel", "weather", "on call", "design", "hiring",
          "games", "running", "photos", "budget", "lunch", "backups", "reading", "chess", "trains")

ACTIONS = []


def action(weight):
    def register(function):
        ACTIONS.append((function, weight))
        return function
    return register


class World:
    """What the writers share: the ids that exist, counters, and the last events for the view."""

    def __init__(self, seed):
        rng = random.Random(seed)
        self.lock = threading.Lock()
        self.users = [make_uuid(rng) for _ in range(USERS)]
        self.rooms = [make_uuid(rng) for _ in range(CONVERSATIONS)]
        self.recent = collections.deque(maxlen=2000)
        self.number = HISTORY
        self.commits = self.conflicts = 0
        self.events = collections.deque(maxlen=200)
        self.started = time.monotonic()

    def next_number(self):
        with self.lock:
            self.number += 1
            return self.number

    def note(self, text):
        self.events.append((time.monotonic() - self.started, text))


def make_uuid(rng):
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def fill(conn, world):
    """Base data: rooms of 3 to 40 members, a history of messages."""
    rng = random.Random(7)
    with conn.cursor() as q:
        for number, user in enumerate(world.users):
            q.execute("INSERT INTO users VALUES (%s, %s, %s)", (user, f"user{number}", f"User {number}"))
        for number, room in enumerate(world.rooms):
            title = TOPICS[number % len(TOPICS)] + ("" if number < len(TOPICS) else f" {number // len(TOPICS) + 1}")
            q.execute("INSERT INTO conversations VALUES (%s, %s, %s, %s, now() - interval '31 days', now())",
                      (room, str(uuid.UUID(int=number % 3)), title, "group" if number % 4 else "direct"))
            q.execute("INSERT INTO user_conversations SELECT unnest(%s::uuid[]), %s, now() - interval '31 days', now()",
                      (rng.sample(world.users, rng.randint(3, 40)), room))
        q.execute("INSERT INTO messages SELECT gen_random_uuid(), ($1)[1 + floor(random() * %s)::int], "
                  "($2)[1 + floor(random() * %s)::int], n, 'c' || n, 'old message ' || n, "
                  "now() - (%s - n) * interval '1 minute', NULL FROM generate_series(1, %s) n"
                  .replace("($1)", "(%s::uuid[])").replace("($2)", "(%s::uuid[])"),
                  (world.rooms, CONVERSATIONS, world.users, USERS, HISTORY, HISTORY))


class Writer(threading.Thread):
    def __init__(self, connect, world, seed, pause):
        super().__init__(daemon=True)
        self.connect, self.world, self.pause = connect, world, pause
        self.rng = random.Random(seed)
        self.stopping = threading.Event()
        self.failure = None

    def run(self):
        functions, weights = zip(*ACTIONS)
        try:
            conn = self.connect()
            conn.autocommit = False
            with conn.cursor() as q:
                q.execute("SET lock_timeout = '500ms'")
            conn.commit()
            while not self.stopping.is_set():
                self.attempt(conn, self.rng.choices(functions, weights)[0])
                self.stopping.wait(self.rng.expovariate(1 / self.pause))
            conn.close()
        except Exception as error:  # pylint: disable=broad-except
            self.failure = error

    def attempt(self, conn, function):
        try:
            with conn.cursor() as q:
                event = function(self, q)
            conn.commit()
        except (psycopg2.errors.LockNotAvailable, psycopg2.errors.DeadlockDetected, psycopg2.errors.UniqueViolation):
            conn.rollback()
            self.world.conflicts += 1
            return
        self.world.commits += 1
        if event:
            self.world.note(event)

    # What actions draw.
    def room(self):
        """Some rooms are much busier than others."""
        return self.world.rooms[min(int(self.rng.paretovariate(0.7)) - 1, len(self.world.rooms) - 1)]

    def quiet_room(self):
        return self.rng.choice(self.world.rooms[len(self.world.rooms) // 2:])

    def user(self):
        return self.rng.choice(self.world.users)

    def message(self):
        return self.rng.choice(self.world.recent) if self.world.recent else None

    def send(self, q, room, when="clock_timestamp()"):
        message = make_uuid(self.rng)
        number = self.world.next_number()
        q.execute(f"INSERT INTO messages VALUES (%s, %s, %s, %s, %s, %s, {when}, NULL)",
                  (message, room, self.user(), number, f"c{number}", f"message {number} " + "bla " * self.rng.randint(1, 20)))
        return message


def title(q, room):
    q.execute("SELECT title FROM conversations WHERE id = %s", (room,))
    row = q.fetchone()
    return row[0] if row else "?"


@action(300)
def send_message(w, q):
    room = w.room()
    message = w.send(q, room)
    q.execute("UPDATE conversations SET updated_at = clock_timestamp() WHERE id = %s", (room,))
    w.world.recent.append(message)


@action(60)
def read_up(w, q):
    q.execute("UPDATE user_conversations SET last_read_at = clock_timestamp() WHERE conversation_id = %s AND user_id = %s",
              (w.room(), w.user()))


@action(10)
def whole_room_reads_up(w, q):
    q.execute("UPDATE user_conversations SET last_read_at = clock_timestamp() WHERE conversation_id = %s", (w.room(),))


@action(4)
def read_back(w, q):
    room = w.room()
    q.execute("UPDATE user_conversations SET last_read_at = last_read_at - interval '1 hour' WHERE conversation_id = %s"
              " AND user_id = %s", (room, w.user()))
    return f"a member of '{title(q, room)}' marks an hour of messages unread" if q.rowcount else None


@action(2)
def never_read(w, q):
    q.execute("UPDATE user_conversations SET last_read_at = NULL WHERE conversation_id = %s AND user_id = %s",
              (w.room(), w.user()))
    return "a last_read_at set to NULL" if q.rowcount else None


@action(15)
def delete_softly(w, q):
    q.execute("UPDATE messages SET deleted_at = clock_timestamp() WHERE id = %s", (w.message(),))


@action(8)
def undelete(w, q):
    q.execute("UPDATE messages SET deleted_at = NULL WHERE id = (SELECT id FROM messages WHERE conversation_id = %s"
              " AND deleted_at IS NOT NULL LIMIT 1)", (w.room(),))


@action(10)
def delete_hard(w, q):
    q.execute("DELETE FROM messages WHERE id = %s", (w.message(),))


@action(4)
def delete_newest(w, q):
    room = w.room()
    q.execute("DELETE FROM messages WHERE id = (SELECT id FROM messages WHERE conversation_id = %s AND deleted_at IS NULL"
              " ORDER BY created_at DESC LIMIT 1)", (room,))
    return f"newest message of '{title(q, room)}' deleted"


@action(6)
def edit(w, q):
    q.execute("UPDATE messages SET content = content || ' (edited)', client_message_id = NULL WHERE id = %s", (w.message(),))


@action(3)
def change_created_at(w, q):
    q.execute("UPDATE messages SET created_at = created_at - interval '3 hours' WHERE id = %s", (w.message(),))
    return "a message dated back by three hours" if q.rowcount else None


@action(3)
def arrive_late(w, q):
    w.send(q, w.room(), "clock_timestamp() - interval '2 days'")
    return "a message of two days ago arrives"


@action(3)
def move_message(w, q):
    room = w.quiet_room()
    q.execute("UPDATE messages SET conversation_id = %s WHERE id = %s", (room, w.message()))
    return f"a message moved to '{title(q, room)}'" if q.rowcount else None


@action(6)
def join(w, q):
    q.execute("INSERT INTO user_conversations VALUES (%s, %s, now(), now()) ON CONFLICT DO NOTHING", (w.user(), w.room()))


@action(6)
def leave(w, q):
    q.execute("DELETE FROM user_conversations WHERE user_id = %s AND conversation_id = %s", (w.user(), w.room()))


@action(4)
def rename(w, q):
    room = w.room()
    before = title(q, room)
    after = before.split(" ·")[0] + f" · {w.rng.randint(1, 99)}"
    q.execute("UPDATE conversations SET title = %s WHERE id = %s", (after, room))
    return f"'{before}' renamed '{after}'"


@action(1)
def delete_conversation(w, q):
    """Its messages and memberships stay; now and then such a room comes back."""
    room = w.quiet_room()
    q.execute("DELETE FROM conversations WHERE id = %s RETURNING title", (room,))
    if q.rowcount:
        return f"conversation '{q.fetchone()[0]}' deleted, its messages and members left"
    q.execute("INSERT INTO conversations VALUES (%s, %s, 'back again', 'group', now(), now())", (room, str(uuid.UUID(int=1))))
    return "a deleted conversation is back, with its old messages"


@action(1)
def change_keys(w, q):
    old, new = w.message(), make_uuid(w.rng)
    q.execute("UPDATE messages SET id = %s WHERE id = %s", (new, old))
    user, replacement = w.user(), w.user()
    q.execute("UPDATE user_conversations u SET user_id = %s WHERE user_id = %s AND NOT EXISTS (SELECT FROM"
              " user_conversations v WHERE v.user_id = %s AND v.conversation_id = u.conversation_id)",
              (replacement, user, replacement))
    return f"primary keys changed: a message's, and those of {q.rowcount} memberships"


@action(3)
def change_mind(w, q):
    """A savepoint rolled back, a part that stays."""
    room = w.room()
    w.send(q, room)
    q.execute("SAVEPOINT doubt")
    q.execute("DELETE FROM messages WHERE conversation_id = %s", (room,))
    q.execute("ROLLBACK TO doubt")
    return f"all messages of '{title(q, room)}' deleted, and the savepoint rolled back"


@action(2)
def think_better(w, q):
    w.send(q, w.room())
    q.connection.rollback()


# Once each, at set parts of the demo's time.
def import_many(w, q, count=100_000):
    q.execute("INSERT INTO messages SELECT gen_random_uuid(), (%s::uuid[])[1 + n %% 7], %s, %s + n, NULL, 'imported ' || n,"
              " clock_timestamp() - interval '10 days' + n * interval '1 second', NULL FROM generate_series(1, %s) n",
              (w.world.rooms[-7:], w.user(), w.world.number, count))
    return f"{count:,} messages imported in one transaction"


def truncate(w, q):
    q.execute("CREATE TEMPORARY TABLE kept ON COMMIT DROP AS SELECT * FROM messages WHERE sequence_number %% 2 = 0"
              .replace("%%", "%"))
    q.execute("TRUNCATE messages")
    q.execute("INSERT INTO messages SELECT * FROM kept")
    return f"TRUNCATE messages, every second one ({q.rowcount:,}) put back"


def upgrade_users(w, q):
    q.execute("CREATE TEMPORARY TABLE kept ON COMMIT DROP AS SELECT * FROM users")
    q.execute("TRUNCATE users")
    q.execute("INSERT INTO users SELECT id, username, display_name || ' *' FROM kept")
    return "TRUNCATE users, all put back with another display name"


class Stunts(Writer):
    """A writer that does each of the big things once, and the ordinary ones in between."""

    PLAN = ((0.2, import_many), (0.45, truncate), (0.65, upgrade_users), (0.8, import_many))

    def __init__(self, connect, world, seed, pause, seconds):
        super().__init__(connect, world, seed, pause)
        self.plan = [(part * seconds, function) for part, function in self.PLAN]

    def attempt(self, conn, function):
        if self.plan and time.monotonic() - self.world.started >= self.plan[0][0]:
            before = self.world.conflicts
            super().attempt(conn, self.plan[0][1])
            if self.world.conflicts == before:    # otherwise it is tried again
                self.plan.pop(0)
        else:
            super().attempt(conn, function)
