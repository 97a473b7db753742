-- Contender "native + triggers": what a competent engineer would put on the tables of a native subscription to keep
-- conversation_summary and user_conversation_membership right. Row triggers, for logical replication fires no others; they
-- are ENABLE ALWAYS, for it runs as session_replication_role = replica; and every name is qualified, for it runs with an
-- empty search_path. An inserted message costs one update of its conversation's row and one of its members' rows.

CREATE FUNCTION public.message_added(m public.messages) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE public.conversation_summary SET message_count = message_count + 1,
            last_message_at = greatest(last_message_at, m.created_at),
            last_sequence_number = greatest(last_sequence_number, m.sequence_number)
        WHERE id = m.conversation_id;
    UPDATE public.user_conversation_membership SET unread_count = unread_count + 1
        WHERE conversation_id = m.conversation_id AND last_read_at < m.created_at;
END $$;

-- The message is no longer among the mirror's live ones: a maximum is looked up again only if it was this message's.
CREATE FUNCTION public.message_removed(m public.messages) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE public.conversation_summary SET message_count = message_count - 1,
            last_message_at = CASE WHEN last_message_at > m.created_at THEN last_message_at ELSE
                (SELECT max(o.created_at) FROM public.messages o
                 WHERE o.conversation_id = m.conversation_id AND o.deleted_at IS NULL) END,
            last_sequence_number = CASE WHEN last_sequence_number > m.sequence_number THEN last_sequence_number ELSE
                (SELECT max(o.sequence_number) FROM public.messages o
                 WHERE o.conversation_id = m.conversation_id AND o.deleted_at IS NULL) END
        WHERE id = m.conversation_id;
    UPDATE public.user_conversation_membership SET unread_count = unread_count - 1
        WHERE conversation_id = m.conversation_id AND last_read_at < m.created_at;
END $$;

CREATE FUNCTION public.on_message() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' AND OLD.deleted_at IS NULL THEN
        PERFORM public.message_removed(OLD);
    END IF;
    IF TG_OP <> 'DELETE' AND NEW.deleted_at IS NULL THEN
        PERFORM public.message_added(NEW);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER added_or_removed AFTER INSERT OR DELETE ON public.messages
    FOR EACH ROW EXECUTE FUNCTION public.on_message();
CREATE TRIGGER changed AFTER UPDATE ON public.messages FOR EACH ROW
    WHEN ((OLD.conversation_id, OLD.sequence_number, OLD.created_at, OLD.deleted_at IS NULL)
          IS DISTINCT FROM (NEW.conversation_id, NEW.sequence_number, NEW.created_at, NEW.deleted_at IS NULL))
    EXECUTE FUNCTION public.on_message();

-- A member who has read past the newest message has no unread ones: this is the usual case, and spares the count.
CREATE FUNCTION public.unread(conversation uuid, read_at timestamptz) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF read_at IS NULL
       OR read_at >= (SELECT s.last_message_at FROM public.conversation_summary s WHERE s.id = conversation) THEN
        RETURN 0;
    END IF;
    RETURN (SELECT count(*) FROM public.messages m
            WHERE m.conversation_id = conversation AND m.deleted_at IS NULL AND m.created_at > read_at);
END $$;

CREATE FUNCTION public.on_conversation() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.id = NEW.id THEN
        UPDATE public.conversation_summary SET title = NEW.title, type = NEW.type, tenant_id = NEW.tenant_id,
                created_at = NEW.created_at, updated_at = NEW.updated_at
            WHERE id = NEW.id;
        IF (OLD.title, OLD.type, OLD.tenant_id) IS DISTINCT FROM (NEW.title, NEW.type, NEW.tenant_id) THEN
            UPDATE public.user_conversation_membership
                SET conversation_title = NEW.title, conversation_type = NEW.type, tenant_id = NEW.tenant_id
                WHERE conversation_id = NEW.id;
        END IF;
        RETURN NULL;
    END IF;
    IF TG_OP <> 'INSERT' THEN
        DELETE FROM public.conversation_summary WHERE id = OLD.id;
        DELETE FROM public.user_conversation_membership WHERE conversation_id = OLD.id;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO public.conversation_summary (id, title, type, tenant_id, created_at, updated_at, message_count,
                                                 last_message_at, last_sequence_number)
            SELECT NEW.id, NEW.title, NEW.type, NEW.tenant_id, NEW.created_at, NEW.updated_at, count(*),
                   max(m.created_at), max(m.sequence_number)
            FROM public.messages m WHERE m.conversation_id = NEW.id AND m.deleted_at IS NULL;
        INSERT INTO public.user_conversation_membership (user_id, conversation_id, joined_at, last_read_at,
                                                         conversation_title, conversation_type, tenant_id, unread_count)
            SELECT u.user_id, NEW.id, u.joined_at, u.last_read_at, NEW.title, NEW.type, NEW.tenant_id,
                   public.unread(NEW.id, u.last_read_at)
            FROM public.user_conversations u WHERE u.conversation_id = NEW.id;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE ON public.conversations
    FOR EACH ROW EXECUTE FUNCTION public.on_conversation();

CREATE FUNCTION public.on_member() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND (OLD.user_id, OLD.conversation_id) = (NEW.user_id, NEW.conversation_id) THEN
        UPDATE public.user_conversation_membership SET joined_at = NEW.joined_at, last_read_at = NEW.last_read_at,
                unread_count = public.unread(NEW.conversation_id, NEW.last_read_at)
            WHERE user_id = NEW.user_id AND conversation_id = NEW.conversation_id;
        RETURN NULL;
    END IF;
    IF TG_OP <> 'INSERT' THEN
        DELETE FROM public.user_conversation_membership
            WHERE user_id = OLD.user_id AND conversation_id = OLD.conversation_id;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO public.user_conversation_membership (user_id, conversation_id, joined_at, last_read_at,
                                                         conversation_title, conversation_type, tenant_id, unread_count)
            SELECT NEW.user_id, c.id, NEW.joined_at, NEW.last_read_at, c.title, c.type, c.tenant_id,
                   public.unread(c.id, NEW.last_read_at)
            FROM public.conversations c WHERE c.id = NEW.conversation_id;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE ON public.user_conversations
    FOR EACH ROW EXECUTE FUNCTION public.on_member();

ALTER TABLE public.messages ENABLE ALWAYS TRIGGER added_or_removed;
ALTER TABLE public.messages ENABLE ALWAYS TRIGGER changed;
ALTER TABLE public.conversations ENABLE ALWAYS TRIGGER changed;
ALTER TABLE public.user_conversations ENABLE ALWAYS TRIGGER changed;
