DELETE FROM rate_buckets WHERE name LIKE 'token:%';
DROP TABLE api_tokens;
