-- A payload as text, if that has at most p_most bytes: else what can be shown of it, and a fault that says how large it is.
-- How large a payload is in the table says nothing: 1e100000 is stored in 10 bytes, and a value may be compressed. So what can't
-- fit is not even made: of what is no number with an exponent the text takes at least a sixth of the value's own size. A value
-- of which no text can be made, because it is longer than 1 GB or damaged, has a fault too. Want of memory is no fault of a payload.
CREATE OR REPLACE FUNCTION payload_text_v1(p_payload jsonb, p_most bigint, OUT written text, OUT fault text)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$
DECLARE
    v_size bigint;
BEGIN
    v_size := pg_column_size(p_payload || '{}');  -- not compressed: what is added is nothing
    IF v_size > 6 * p_most THEN
        fault := format('it takes %s bytes; at most %s are given as text', v_size, p_most);
        RETURN;
    END IF;
    written := p_payload;
    IF octet_length(written) > p_most THEN
        fault := format('its text has %s bytes; at most %s are given', octet_length(written), p_most);
        written := left(written, 200);
    END IF;
EXCEPTION
    WHEN insufficient_resources THEN  -- the whole class 53
        RAISE;
    WHEN OTHERS THEN
        written := NULL;
        fault := format('no text can be made of it: %s', SQLERRM);
END $$;
