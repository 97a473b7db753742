"""Random values for the workload: keys from small universes, so that writers meet; and awkward values of each type."""
import hashlib
import random
import uuid

TIMES = ("infinity", "-infinity", "0044-03-15 12:00:00+00 BC", "294276-12-31 23:59:59.999999+00",
         "1883-11-18 12:03:58.5+00", "9999-12-31 23:59:59.999999+00", "2000-01-01 00:00:00+00")
TEXTS = ("", " ", "plain", "Grüße, schöne Welt", "日本語テキスト", "😀 👩‍👩‍👧 emoji", "quote ' double \" both '\"", "back\\slash \\n \\\\ \\u0041",
         "tab\t newline\n return\r form\f back\b", "\x01\x02\x1f\x7f control", "null", "NULL", "\\N", "{}", "[1, 2]",
         '{"json": "\\"like\\""}', "\u2028\u2029\ufeff", "trailing space ", "semi; colon -- comment /* x */",
         "%s %% $1 :name ?", "e\u0301 \u00e9", "\U0010ffff", "'' E'\\''", "true", "1.50")
NUMBERS = ("0", "-0.00", "1.0", "1.00", "123456789012345678901234567890.123456789012345678901234567890", "1e-30",
           "-99999999999999999999999999999999999999", "9223372036854775808", "0." + "0" * 200 + "1", "1" + "0" * 300,
           "0.1", "1e400")
DOUBLES = ("0", "-0", "1.5", "0.1", "1234.50", "1e300", "5e-324", "2.2250738585072014e-308", "123456789.12345678", "1e16")
REALS = ("0", "1.5", "0.1", "3.4e38", "1e-45", "16777217", "1234.5")
JSON = ('{}', '[]', 'null', '"text"', '{"a": [1, 2.50, 1e400, null, true], "b\\"": {"c": "\\u00e9 \\\\"}}',
        '{"b": 1,  "a": 2, "b": 3}', '12345678901234567890.123456789', '{"": ""}', '["\\t\\n\\b"]')
ARRAYS = ('{}', '{a,b}', '{"with \\"quote\\"","with, comma",NULL,"NULL",""}', '{{a,b},{c,d}}', '[2:3]={x,y}')
NUMBER_ARRAYS = ('{}', '{1.0,1.00,NULL}', '{123456789012345678901234567890.5}')
MOODS = ("gut", 'so "lala"', "it's bad", "schön \\ ja", "a,b")
MOOD_ARRAYS = ("{}", '{gut,"so \\"lala\\"","a,b"}', "{NULL}")
BYTES = ("\\x", "\\x00", "\\x5c78", "\\x00ff10deadbeef27")
INTERVALS = ("1 day", "-1 mon +2 days 03:04:05.678", "00:00:00", "178000000 years", "1.5 hours")
RANGES = ("empty", "[1,5)", "(,)", "[,10]")
NETS = ("10.0.0.1", "10.0.0.0/8", "::1", "fe80::/10")


class Draw:
    """What one writer draws from. The same seed draws the same values."""

    def __init__(self, seed, users=12, conversations=8, messages=160):
        self.rng = random.Random(seed)
        self.users, self.conversations, self.messages = users, conversations, messages

    def chance(self, probability):
        return self.rng.random() < probability

    def pick(self, values):
        return self.rng.choice(values)

    def or_null(self, value, probability=0.1):
        return None if self.chance(probability) else value

    def key(self, kind, number):
        """The uuid of thing `number`; a message's first digit is its partition, 0 to 5."""
        digest = hashlib.md5(f"{kind} {number}".encode()).hexdigest()
        return str(uuid.UUID(f"{number % 6:x}{digest[1:]}" if kind == "message" else digest))

    def user(self):
        return self.key("user", self.skewed(self.users))

    def conversation(self):
        return self.key("conversation", self.skewed(self.conversations))

    def message(self):
        return self.key("message", self.rng.randrange(self.messages))

    def tenant(self):
        return self.or_null(self.key("tenant", self.rng.randrange(3)))

    def skewed(self, count):
        """A number below count, the small ones far more often."""
        return min(int(count * self.rng.random() ** 2), count - 1)

    def time(self):
        """Mostly within a few hours, on whole minutes, so that times meet and tie; now and then far out."""
        if self.chance(0.03):
            return self.pick(TIMES)
        minute = self.rng.randrange(400)
        return f"2024-05-05 {minute // 60:02}:{minute % 60:02}:00{self.pick(('', '', '.000001', '.5'))}+00"

    def text(self):
        return self.pick(TEXTS) if self.chance(0.5) else f"text {self.rng.randrange(1000)}"

    def long_text(self):
        """SQL and parameters of a text that compression does not save from being stored out of line."""
        pieces = self.rng.choice((70, 100, 300, 2000))
        return ("(SELECT string_agg(md5(i::text || %s), E'\\\\\"\\n€') FROM generate_series(1, %s) i)",
                (str(self.rng.random()), pieces))

    def odd_row(self):
        """Values for the table with a column of every kind, by column."""
        pick = self.pick
        row = {
            '"Mixed Case"': self.text(), '"quote""d"': self.text()[:40], "fixed": pick(("", "a", "abc  ", "äöüßx")),
            "num": pick(NUMBERS), "scaled": pick(("0", "1.5", "-12345678901234567890.12345678901234567890")),
            "dbl": pick(DOUBLES), "flt": pick(REALS), "small": pick((0, -32768, 32767)), "flag": pick((True, False)),
            "at": self.time(), "local": pick(("2024-02-29 23:59:59.999", "infinity", "0001-01-01 00:00:00 BC")),
            "day": pick(("2024-02-29", "infinity", "-infinity", "4714-11-24 BC", "5874897-12-31")),
            "clock": pick(("00:00:00", "23:59:59.999999", "24:00:00")), "zoned": "12:34:56.789+05:45",
            "span": pick(INTERVALS), "mood": pick(MOODS), "mail": pick(("a@b", "ü@ö", "'@\"")),
            "pos": pick(("1", "0.000000000000000000000000000001", "1.10")), "words": pick(ARRAYS),
            "numbers": pick(NUMBER_ARRAYS), "moods": pick(MOOD_ARRAYS), "doc": pick(JSON[:4] + JSON[5:]),
            "raw": pick(JSON), "bytes": pick(BYTES), "net": pick(NETS), "bits": pick(("", "1", "10110")),
            "range": pick(RANGES), "other": self.text()}
        return {column: self.or_null(value, 0.15) for column, value in row.items()}
