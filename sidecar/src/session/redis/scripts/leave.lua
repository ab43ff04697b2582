-- Notes that the client is gone. record::leave.
-- ARGV prefix client | count token confirmed | pod keep expiry | will: due-in ('' discards it) for-grace | changes
local prefix, client, count, token, confirmed, pod, keep, expiry, due, grace = unpack(ARGV, 1, 10)
local session, will, wills = KEYS[1], KEYS[2], KEYS[3]
local known = redis.call('HMGET', session, 'c', 't', 'e', 's')
local why = rejected(known, count, token)
if why then return why end
if known[3] ~= epoch or tonumber(known[4]) < tonumber(confirmed) then return 2 end
change(session, 11, known[4])
if keep == '1' then
  redis.call('HSET', session, 'o', '')
  redis.call('PEXPIRE', session, expiry)
else
  redis.call('DEL', session)
end
redis.call('SREM', prefix .. 'o:' .. pod, client)
if due == '' then
  redis.call('DEL', will)
  redis.call('ZREM', wills, client)
elseif redis.call('EXISTS', will) == 1 then
  if grace == '1' then redis.call('HSET', will, 'g', '1') end
  redis.call('PEXPIRE', will, due + DAY)
  redis.call('ZADD', wills, now() + due, client)
end
return 0
