-- Returns a payload as text if the text has at most p_most bytes, and else a fault that says how large it is.
-- written is the text. With a fault it is the first 200 characters of the text, or null if no text was made.
-- The size of a payload in the table says nothing about its text: 1e100000 takes 10 bytes, and a value may be compressed.
-- A text that cannot fit is not even made. This is known because a text has at least a sixth of the bytes of its value,
-- except for numbers with an exponent. A value whose text cannot be made, because it is longer than 1 GB or damaged, has
-- a fault too. Want of memory is not a fault of the payload: the function raises it.
CREATE OR REPLACE FUNCTION payload_text_v1(p_payload jsonb, p_most bigint, OUT written text, OUT fault text)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$
DECLARE
    v_size bigint;
BEGIN
    v_size := pg_column_size(p_payload || '{}');  -- adding nothing yields the value uncompressed
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
