-- Takes a session back that the store forgot, under a new incarnation. record::reclaim.
-- ARGV prefix client | count token identity pod new-token incarnation | ttl | will: id delay grace message | changes
local prefix, client, count, token, identity, pod, new, incarnation, ttl = unpack(ARGV, 1, 9)
local known = redis.call('HMGET', KEYS[1], 'c', 't')
if rejected(known, count, token) == 1 then return {1} end
local next = string.format('%.0f', count + 1)
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'i', identity, 'c', next, 't', new, 'o', pod, 'e', epoch, 'n', incarnation, 's', '0', 'r', '1')
redis.call('PEXPIRE', KEYS[1], ttl)
arm(prefix, client, pod, ttl, unpack(ARGV, 10, 13))
change(KEYS[1], 14, '0')
return {0, next}
