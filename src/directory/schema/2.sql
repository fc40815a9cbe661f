-- How many accounts are gone: they take no place of the living, and are bounded all the same.
INSERT INTO counts SELECT 'gone', count(*) FROM gone;
CREATE TRIGGER gone_in AFTER INSERT ON gone BEGIN
    UPDATE counts SET value = value + 1 WHERE what = 'gone';
END;
