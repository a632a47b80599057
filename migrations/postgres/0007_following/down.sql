DROP TABLE waiting_instants;
DROP TABLE ends_to_follow;
DROP TABLE schedule_followers;
ALTER TABLE schedules DROP COLUMN last_success_at;
