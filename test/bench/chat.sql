-- The chat schema of the write database, as the shipped projections expect it.
CREATE TABLE users (
    id           uuid PRIMARY KEY,
    username     text NOT NULL,
    display_name text
);
CREATE TABLE conversations (
    id         uuid PRIMARY KEY,
    tenant_id  uuid NOT NULL,
    title      text,
    type       text NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE TABLE messages (
    id                uuid PRIMARY KEY,
    conversation_id   uuid NOT NULL,
    sender_id         uuid NOT NULL,
    sequence_number   bigint NOT NULL,
    client_message_id text,
    content           text,
    created_at        timestamptz NOT NULL,
    deleted_at        timestamptz
);
CREATE TABLE user_conversations (
    user_id         uuid,
    conversation_id uuid,
    joined_at       timestamptz NOT NULL,
    last_read_at    timestamptz,
    PRIMARY KEY (user_id, conversation_id)
);
