-- Undoes 0019. Sessions may be opened everywhere again, and log-ins under way begin anew.
ALTER TABLE spaces DROP COLUMN ssh;
ALTER TABLE apps DROP COLUMN ssh;
DROP TABLE device_logins;
DROP TABLE one_time_codes;
